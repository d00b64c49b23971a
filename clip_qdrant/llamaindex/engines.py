"""What the engines of a `ClipIndex` show their models: the pictures, where the model may take them, else the text.

LlamaIndex does not say which models take pictures. As its own `MultiModalVectorStoreIndex` has it, a chat model is
shown them; one that completes text is not. `multimodal=True` or `False` says it instead.

    response mode                               what is shown
    compact, refine, tree_summarize,
    simple_summarize, accumulate,
    compact_accumulate                          pictures and text
    generation, no_text, context_only           no picture, as these ask a model nothing about what was found

    chat mode                                   what is shown
    best, condense_plus_context, context        pictures and text, with the question
    condense_question                           as the response mode says
    simple                                      nothing that was found
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, SelectorPromptTemplate
from llama_index.core.response_synthesizers import CompactAndRefine, ResponseMode

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.budget import ImageBudget

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import ContentBlock
    from llama_index.core.llms import LLM
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.prompts import BasePromptTemplate

_SHOW = (
    ResponseMode.COMPACT,
    ResponseMode.REFINE,
    ResponseMode.TREE_SUMMARIZE,
    ResponseMode.SIMPLE_SUMMARIZE,
    ResponseMode.ACCUMULATE,
    ResponseMode.COMPACT_ACCUMULATE,
)
_FOR_PICTURES = {"text_qa_template": "chat_content_qa_template", "refine_template": "chat_content_refine_template"}
_FOR_TEXT = "summary_template"
"""Of LlamaIndex's templates for text that which its engines have no other of for pictures."""


class PictureTemplate(ChatPromptTemplate):
    """A template for text whose model also sees pictures: each with its name, before the words of the last message.

    Args:
        template: for text.
        llm: which of a `SelectorPromptTemplate` is meant.
    """

    def __init__(self, template: BasePromptTemplate, llm: LLM) -> None:
        if isinstance(template, SelectorPromptTemplate):
            template = template.select(llm)
        if isinstance(template, ChatPromptTemplate):
            messages = template.message_templates
        else:
            messages = [ChatMessage(content=template.get_template(llm), role=MessageRole.USER)]
        super().__init__(
            messages,
            output_parser=template.output_parser,
            template_var_mappings=template.template_var_mappings,
            function_mappings=template.function_mappings,
        )
        self.kwargs.update(template.kwargs)

    def format_messages(
        self, llm: Any = None, context_messages: Sequence[ChatMessage] = (), **kwargs: Any
    ) -> list[ChatMessage]:
        """The messages of the template, with the text of the context where it stands, and the pictures in the last."""
        blocks = [block for message in context_messages for block in message.blocks]
        if blocks:
            words = "\n\n".join(block.text for block in blocks if isinstance(block, TextBlock))
            kwargs |= {"context_str": words, "context_msg": words}
        messages = super().format_messages(llm, **kwargs)
        shown = _pictures(blocks)
        return [*messages[:-1], messages[-1].model_copy(update={"blocks": [*shown, *messages[-1].blocks]})]


class PicturesAndContext(ContextChatEngine):
    """LlamaIndex's chat engine with a context, whose model sees the pictures of it."""

    def _get_response_synthesizer(self, chat_history: list[ChatMessage], streaming: bool = False) -> CompactAndRefine:
        return _shown(super()._get_response_synthesizer(chat_history, streaming), self._llm, streaming)


class CondensePlusPictures(CondensePlusContextChatEngine):
    """LlamaIndex's chat engine that condenses the conversation to a question, whose model sees the pictures found."""

    def _get_response_synthesizer(self, chat_history: list[ChatMessage], streaming: bool = False) -> CompactAndRefine:
        return _shown(super()._get_response_synthesizer(chat_history, streaming), self._llm, streaming)


CHAT_ENGINES: dict[ChatMode, type[PicturesAndContext | CondensePlusPictures]] = {
    ChatMode.BEST: CondensePlusPictures,
    ChatMode.CONDENSE_PLUS_CONTEXT: CondensePlusPictures,
    ChatMode.CONTEXT: PicturesAndContext,
}


def with_pictures(llm: LLM, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a query engine, such that its model sees what it may.

    A template for text that the caller gives is used for pictures, too.

    Args:
        llm: the model.
        given: what `RetrieverQueryEngine.from_args` takes; a `response_synthesizer` is as it was made.

    Raises:
        ConfigError: pictures are asked for, and what else is given shows none.
    """
    arguments, asked = dict(given), given.get("multimodal")
    synthesizer = given.get("response_synthesizer")
    if synthesizer is not None:
        reason = None if synthesizer._multimodal else "the response_synthesizer is made without multimodal=True"
    else:
        reason = _reason_for_text(given)
    if asked and reason is not None:
        raise ConfigError(f"multimodal=True, but {reason}.")
    shows = (llm.metadata.is_chat_model or synthesizer is not None) if asked is None else asked
    if reason is not None or not shows:
        return arguments
    if synthesizer is None:
        for text, pictures in _FOR_PICTURES.items():
            if given.get(text) is not None and given.get(pictures) is None:
                arguments[pictures] = PictureTemplate(given[text], llm)
    budgeted = with_budget(given.get("node_postprocessors"))
    return {**arguments, "multimodal": True, "node_postprocessors": budgeted}


def with_budget(postprocessors: Sequence[BaseNodePostprocessor] | None) -> list[BaseNodePostprocessor]:
    """Postprocessors with an `ImageBudget`: theirs, or one at the end."""
    given = list(postprocessors or ())
    return given if any(isinstance(one, ImageBudget) for one in given) else [*given, ImageBudget()]


def chat_mode_of(given: Any, multimodal: bool | None) -> ChatMode:
    """A chat mode by its name.

    Raises:
        ConfigError: there is none of that name, or it shows no pictures, which are asked for.
    """
    names = [mode.value for mode in ChatMode if mode not in (ChatMode.REACT, ChatMode.OPENAI)]
    if given not in names:
        raise ConfigError(f"chat_mode must be one of {', '.join(map(repr, names))}, got {given!r}.")
    mode = ChatMode(given)
    if multimodal and mode == ChatMode.SIMPLE:
        raise ConfigError("multimodal=True, but chat_mode 'simple' shows the model nothing of the index. Use 'best'.")
    return mode


def _reason_for_text(given: Mapping[str, Any]) -> str | None:
    """Why a query engine of such arguments shows no pictures, and what would."""
    mode = given.get("response_mode", ResponseMode.COMPACT)
    if mode not in _SHOW:
        names = ", ".join(repr(one.value) for one in _SHOW)
        return f"response_mode {str(getattr(mode, 'value', mode))!r} shows no pictures. Use one of {names}"
    if mode == ResponseMode.TREE_SUMMARIZE and given.get(_FOR_TEXT) is not None:
        return (
            f"{_FOR_TEXT} is for text. Give response_synthesizer=get_response_synthesizer("
            "multimodal=True, response_mode='tree_summarize', chat_summary_template=…)"
        )
    for text, pictures in _FOR_PICTURES.items():
        template = given.get(text)
        known = (PromptTemplate, ChatPromptTemplate, SelectorPromptTemplate)
        if template is not None and given.get(pictures) is None and not isinstance(template, known):
            return f"{text} is a {type(template).__name__}, which has no place for them. Give {pictures}"
    return None


def _shown(synthesizer: CompactAndRefine, llm: LLM, streaming: bool) -> CompactAndRefine:
    """A synthesizer of text as one that shows pictures as well."""
    templates = synthesizer.get_prompts()
    return CompactAndRefine(
        llm=llm,
        callback_manager=synthesizer.callback_manager,
        streaming=streaming,
        multimodal=True,
        chat_content_qa_template=PictureTemplate(templates["text_qa_template"], llm),
        chat_content_refine_template=PictureTemplate(templates["refine_template"], llm),
    )


def _pictures(blocks: Sequence[ContentBlock]) -> list[ContentBlock]:
    """The pictures among blocks, each behind its name, which is the first line of the text that follows it."""
    shown: list[ContentBlock] = []
    for block, after in pairwise([*blocks, TextBlock(text="")]):
        if isinstance(block, ImageBlock):
            name = after.text.partition("\n")[0] if isinstance(after, TextBlock) else ""
            shown += [TextBlock(text=name), block] if name else [block]
    return shown
