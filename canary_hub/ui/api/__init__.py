"""The page for programs: gradio's API, OpenAI's routes, MCP tools."""
