// A click on anything with data-seek plays the speech from that second. The position itself goes through
// gradio (see SEEK in transcribe.py): its player keeps its audio element to itself.
document.addEventListener(
  "click",
  (event) => {
    const place = event.target.closest?.("[data-seek]");
    if (!place) return;
    window.canaryHub.seconds = Number(place.dataset.seek);
    const tab = ["compare", "shared"].find((id) => place.closest(`#${id}`));
    const player = tab ? `#${tab}-speech` : "#speech";
    setTimeout(() => document.querySelector(`${player} ${window.canaryHub.play}`)?.click(), 150);
  },
  true,
);

// Pointing at a frame, token or word lights up whatever else belongs to the same stretch of audio.
const light = (event) => {
  const place = event.target.closest?.("[data-from]");
  document.querySelectorAll(".ch-lit").forEach((other) => other.classList.remove("ch-lit"));
  if (!place) return;
  const [from, to] = [Number(place.dataset.from), Number(place.dataset.to)];
  for (const other of place.closest(".ch-lane").querySelectorAll("[data-from]")) {
    if (Number(other.dataset.from) < to && Number(other.dataset.to) > from) other.classList.add("ch-lit");
  }
};
for (const kind of ["pointerover", "focusin", "click"]) document.addEventListener(kind, light);
