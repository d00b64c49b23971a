"""A multimodal chat model that says what a script tells it to, and remembers every block it was shown."""

from io import BytesIO
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, LLMMetadata, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms.mock import MockFunctionCallingLLM
from PIL import Image


class ScriptedLLM(MockFunctionCallingLLM):
    """Answers with the next line of its script, and goes on with the last one; a `call` is a tool call.

    Attributes:
        calls: for each call of the model the messages it was sent.
    """

    calls: list[Any] = Field(default_factory=list)
    context_window: int = 100_000

    def __init__(self, *script: str | ToolCallBlock, **kwargs: Any) -> None:
        super().__init__(is_chat_model=True, response_generator=self._answer, **kwargs)
        self._script = list(script or ["an answer"])

    _script: list[Any]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, context_window=self.context_window)

    @property
    def shown(self) -> list[tuple[Any, ...]]:
        """What the last call showed the model: ("text", text) and ("image", (width, height), format)."""
        return [seen(block) for message in self.calls[-1] for block in message.blocks]

    @property
    def images(self) -> list[tuple[int, int]]:
        """The sizes of the pictures that the last call showed."""
        return [entry[1] for entry in self.shown if entry[0] == "image"]

    @property
    def text(self) -> str:
        """All text that the last call showed."""
        return "\n".join(entry[1] for entry in self.shown if entry[0] == "text")

    def _answer(self, messages: Any, **kwargs: Any) -> ChatMessage:
        self.calls.append(list(messages))
        line = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return ChatMessage(role="assistant", blocks=[TextBlock(text=line) if isinstance(line, str) else line])


def call(tool: str, **arguments: Any) -> ToolCallBlock:
    """A line of a script: the model calls a tool."""
    return ToolCallBlock(tool_call_id="call-1", tool_name=tool, tool_kwargs=arguments)


def seen(block: Any) -> tuple[Any, ...]:
    """A block as a test compares it."""
    if isinstance(block, ImageBlock):
        with Image.open(BytesIO(block.resolve_image().read())) as image:
            image.load()
            return "image", image.size, image.format
    return ("text", block.text) if isinstance(block, TextBlock) else (block.block_type,)
