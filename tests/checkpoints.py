"""Small checkpoints of every family, with real tokenizers, made on the fly: random weights, the real file formats."""

import json
import math
import shutil

import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizerFast,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    GemmaTokenizer,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipTokenizer,
)
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

CORPUS = [
    "a photo of a cat",
    "the quick brown fox jumps over the lazy dog",
    "words of many kinds, and numbers 0123456789",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz",
    "https://example.org/picture.png data:image/png;base64, /tmp/some/path.jpg",
] * 4
SIDE = 32
_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_VISION = {**_TEXT, "image_size": SIDE, "patch_size": 8}


def spread(model):
    """Random weights large enough that different inputs lie far apart."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim >= 2:
                scale = 1.0 if "embedding" in name else 1 / math.sqrt(weight.shape[-1])
                weight.copy_(scale * torch.randn(weight.shape, generator=generator))
            elif "bias" in name and "logit" not in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
        if hasattr(model, "logit_bias"):
            model.logit_scale.fill_(math.log(20.0))
            model.logit_bias.fill_(-5.0)
    return model


def make_clip(folder):
    """CLIP: byte-level BPE, padded to the longest, EOS pooling."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=special,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    trained = json.loads(bpe.to_str())["model"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*trained["vocab"], *alphabet]))}
    for token in alphabet:
        vocab.setdefault(token + "</w>", len(vocab))
    for token in special:  # the highest id is the end's, as OpenAI's has it
        vocab.pop(token)
    vocab = {token: i for i, token in enumerate([*vocab, *special])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[tuple(merge) for merge in trained["merges"]], model_max_length=77)
    ids = {"bos_token_id": vocab[special[0]], "eos_token_id": vocab[special[1]], "pad_token_id": vocab[special[1]]}
    text = {**_TEXT, "vocab_size": len(vocab), "max_position_embeddings": 77, **ids}
    model = spread(CLIPModel(CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=24)))
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return _save(folder, model, tokenizer, processor)


def make_siglip(folder):
    """SigLIP: sentencepiece, padded to 64 whatever the length, no mask, last token pooling."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.txt").write_text("\n".join(CORPUS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "spiece"), vocab_size=120, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", minloglevel=2,
    )  # fmt: skip
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), model_max_length=64)
    model = spread(SiglipModel(SiglipConfig(text_config=_siglip_text(tokenizer), vision_config=_VISION)))
    return _save(folder, model, tokenizer, SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}))


def make_siglip2(folder):
    """SigLIP 2, each image at its own size: a Gemma-like BPE, lower-cased, padded to 64."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    bpe.train_from_iterator(CORPUS, trainer)
    bpe.decoder = decoders.Replace("▁", " ")
    trained = json.loads(bpe.to_str())["model"]
    tokenizer = Siglip2Tokenizer(
        vocab=trained["vocab"], merges=[tuple(merge) for merge in trained["merges"]], model_max_length=64,
        padding_side="right",
    )  # fmt: skip
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    vision = {**_TEXT, "patch_size": 8, "num_patches": 16}
    model = spread(Siglip2Model(Siglip2Config(text_config=_siglip_text(tokenizer), vision_config=vision)))
    return _save(folder, model, tokenizer, Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16))


def make_fixed_siglip2(folder):
    """SigLIP 2 at one size: by its files a SigLIP, with Gemma's tokenizer, which keeps capitals."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    trained = json.loads(bpe.to_str())["model"]
    tokenizer = GemmaTokenizer(
        vocab=trained["vocab"], merges=[tuple(merge) for merge in trained["merges"]], padding_side="right"
    )
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    model = spread(SiglipModel(SiglipConfig(text_config=_siglip_text(tokenizer), vision_config=_VISION)))
    return _save(folder, model, tokenizer, SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}))


def make_metaclip2(folder):
    """MetaCLIP 2: a multilingual vocabulary, between <s> and </s>, pooled at </s>."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, special.index(token)) for token in ("<s>", "</s>")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=77,
    )
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "pad", "eos")}
    text = {**_TEXT, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    model = spread(MetaClip2Model(MetaClip2Config(text_config=text, vision_config=_VISION, projection_dim=24)))
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return _save(folder, model, tokenizer, processor)


def make_chinese_clip(folder):
    """Chinese-CLIP: WordPiece with [CLS] pooling."""
    letters = sorted({letter for text in CORPUS for letter in text.lower() if not letter.isspace()} | set("猫狗鱼"))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})
    text = {**_TEXT, "vocab_size": len(tokens), "max_position_embeddings": 128}
    model = spread(ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=_VISION, projection_dim=24)))
    return _save(folder, model, tokenizer, ChineseCLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}))  # fmt: skip  # noqa: E501


def make_sentence_transformer(folder, checkpoint, *more):
    """A sentence-transformers folder around one of the above, and what modules come after."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    SentenceTransformer(modules=[Transformer(str(checkpoint)), *more], device="cpu").save(str(folder))
    return folder


def make_old_sentence_transformer(folder, clip):
    """As sentence-transformers 2 laid out its CLIP models, the best known of all."""
    shutil.copytree(clip, folder / "0_CLIPModel")
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    (folder / "modules.json").write_text(json.dumps([module]))
    (folder / "config_sentence_transformers.json").write_text('{"__version__": {"sentence_transformers": "2.0.0"}}')
    return folder


def _siglip_text(tokenizer):
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "eos")}
    ids["bos_token_id"] = None
    return {**_TEXT, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32}


def _save(folder, model, tokenizer, processor):
    for part in (model.eval(), tokenizer, processor):
        part.save_pretrained(folder)
    return folder
