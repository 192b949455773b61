// The address bar holds what the page shows. Parameters with an underscore are the page's own (theme and the like).
window.canaryHub.showLink = (query) => {
  if (!window.canaryHub.restored || new URLSearchParams(location.search).has("result")) return;
  const own = [...new URLSearchParams(location.search)].filter(([name]) => name.startsWith("_"));
  const rest = own.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  const whole = [query, ...rest].filter(Boolean).join("&");
  history.replaceState(history.state, "", `${location.pathname}${whole ? `?${whole}` : ""}${location.hash}`);
  // On a Space the page is a frame inside another one, whose address is the one that people copy.
  const around = "https://huggingface.co";
  if (window.parent !== window && document.referrer.startsWith(around)) {
    window.parent.postMessage({ queryString: query }, around);
  }
};

// Anything with data-copy-link copies a link: "?..." one of this page, "" the page as it is, or (data-embed) code that
// embeds it.
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy-link], [data-embed]");
  if (!button) return;
  const page = new URL(button.dataset.copyLink || location.search || "./", location.href.split("#")[0]).href;
  const code = {
    iframe: `<iframe src="${page}" allow="microphone; clipboard-write" width="100%" height="800" style="border: 0"></iframe>`,
    app: `<script type="module" src="https://gradio.s3-us-west-2.amazonaws.com/${window.gradio_config?.version}/gradio.js"><\/script>\n<gradio-app src="${location.origin}${location.pathname}"></gradio-app>`,
  };
  const said = (button.dataset.said ??= button.textContent);
  try {
    await navigator.clipboard.writeText(code[button.dataset.embed] ?? page);
    button.textContent = "Copied";
  } catch {
    window.prompt("Copy this:", code[button.dataset.embed] ?? page);
  }
  setTimeout(() => (button.textContent = said), 1500);
});
