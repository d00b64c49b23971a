"""An assistant that looks for pictures itself, with a chat model of yours that takes pictures and calls tools.

Run: pip install llama-index-llms-openai-like, then for example
LLM_URL=http://localhost:11434/v1 LLM_MODEL=qwen3-vl python examples/06_assistant.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from drawings import draw_all
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer

from clip_qdrant import ClipCollection, ClipEncoder, connect, records_in
from clip_qdrant.llamaindex import ImageSearchToolSpec


async def main(llm: FunctionCallingLLM, question: str = "Which of my drawings shows a red fruit?") -> str:
    """Index pictures, and let the model search them."""
    with tempfile.TemporaryDirectory() as folder, connect(Path(folder, "qdrant")) as client:
        draw_all(Path(folder, "pictures"))
        collection = ClipCollection(client, "pictures", ClipEncoder("pocket"))
        collection.add(records_in(Path(folder, "pictures")))
        tools = ImageSearchToolSpec(collection).to_tool_list()
        agent = FunctionAgent(tools=tools, llm=llm, system_prompt="You answer from the user's drawings.")
        return str(await agent.run(question, memory=ChatMemoryBuffer.from_defaults()))


if __name__ == "__main__":
    try:
        from llama_index.llms.openai_like import OpenAILike
    except ImportError:
        raise SystemExit("A model is needed for this one: pip install llama-index-llms-openai-like") from None
    if not {"LLM_URL", "LLM_MODEL"} <= os.environ.keys():
        raise SystemExit("Say by LLM_URL and LLM_MODEL where the model is; see the top of this file.")
    model = OpenAILike(os.environ["LLM_MODEL"], api_base=os.environ["LLM_URL"], is_function_calling_model=True)
    print(asyncio.run(main(model)))
