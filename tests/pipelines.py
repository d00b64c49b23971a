"""Small pipelines of diffusers, one of each family, with random weights: the real file formats, in milliseconds."""

import functools
import warnings

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests import checkpoints

MARKS = [
    # Importing diffusers' pipelines compiles one of its models in a way that torch no longer likes.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    # Its schedulers give tensors to numpy.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:diffusers"),
]
"""For the tests of whatever imports diffusers."""

PROMPT, SEED = "a photo of a cat", 7
SIDE = 32
"""Of the pictures that they make, in pixels; half of it are latents."""


def saved(make):
    """Make a builder of a pipeline save it in a folder: from a fixed seed, and without the warnings."""

    @functools.wraps(make)
    def build(folder, **options):
        torch.manual_seed(0)
        place = folder / make.__name__.removeprefix("make_")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(folder, **options).save_pretrained(place)
        return place

    return build


def make(root, *families):
    """The folders of small pipelines by family, which the functions below are named by."""
    return {family: globals()[f"make_{family}"](root) for family in families}


@saved
def make_sd(folder, *, checker=False, prediction="epsilon"):
    """Stable Diffusion 1.x."""
    tokenizer = tokenizer_in(folder)
    return StableDiffusionPipeline(
        vae=autoencoder(4),
        text_encoder=CLIPTextModel(text_config(tokenizer, 32)),
        tokenizer=tokenizer,
        unet=unet(32),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
            set_alpha_to_one=False,
            prediction_type=prediction,
        ),
        safety_checker=safety_checker() if checker else None,
        feature_extractor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32) if checker else None,
        requires_safety_checker=checker,
    )


@saved
def make_sdxl(folder):
    """SDXL: two text encoders, and conditions on sizes."""
    tokenizer = tokenizer_in(folder)
    return StableDiffusionXLPipeline(
        vae=autoencoder(4),
        text_encoder=CLIPTextModel(text_config(tokenizer, 32)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, 32)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet(
            64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )


@saved
def make_sd3(folder):
    """Stable Diffusion 3: a transformer and a flow, and three text encoders."""
    tokenizer = tokenizer_in(folder)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=SIDE // 2,
            patch_size=1,
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(16, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(text_config(tokenizer, 32)),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, 32)),
        tokenizer_2=tokenizer,
        text_encoder_3=t5(64),
        tokenizer_3=t5_tokenizer(),
    )


@saved
def make_flux(folder):
    """Flux: a transformer over packed latents, with a T5."""
    tokenizer = tokenizer_in(folder)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(1, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModel(text_config(tokenizer, 32)),
        tokenizer=tokenizer,
        text_encoder_2=t5(32),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
        ),
    )


@saved
def make_kontext(folder):
    """Flux Kontext: Flux's parts, and edits without a strength."""
    parts = FluxPipeline.from_pretrained(make_flux(folder)).components
    return FluxKontextPipeline(**parts)


@saved
def make_pixart(folder):
    """PixArt: a transformer and a T5, and a callback of the old kind."""
    return PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(32),
        vae=autoencoder(4),
        transformer=PixArtTransformer2DModel(
            sample_size=SIDE // 2,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_channels=32,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=32,
            num_embeds_ada_norm=1000,
        ),
        scheduler=DDIMScheduler(),
    )


def tokenizer_in(folder):
    """CLIP's, as in the checkpoint that the encoder's tests use."""
    return CLIPTokenizer.from_pretrained(checkpoints.make_clip(folder / "clip"))


def text_config(tokenizer, width):
    return CLIPTextConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
    )


def t5(width):
    return T5EncoderModel(
        T5Config(vocab_size=64, d_model=width, d_kv=8, d_ff=37, num_layers=1, num_heads=4, pad_token_id=0)
    )


def t5_tokenizer():
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters], extra_ids=0)


def autoencoder(channels, **more):
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=SIDE,
        **more,
    )


def unet(cross_attention_dim, **more):
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=SIDE // 2,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=2,
        norm_num_groups=4,
        **more,
    )


def safety_checker():
    """Whose concepts are all at no distance, so that it flags everything."""
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(
            projection_dim=16,
            text_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            vision_config={
                **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
                **{"image_size": 32, "patch_size": 16},
            },
        )
    )
    checker.concept_embeds_weights.data.fill_(-2.0)
    return checker
