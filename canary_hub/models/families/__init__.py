"""What speech-LLMs of transformers have in common, for the plugins that take them apart into the five stages.

A composite model of transformers (encoder, projector and LLM under one config, in one checkpoint) becomes five
components. `family` says what a model is and what its components accept and produce (no torch), `parts` loads one of
its modules, and `whisper`, `projector` and `backend` are the stages that several families share. The modules are
transformers'; what is here is the split.
"""
