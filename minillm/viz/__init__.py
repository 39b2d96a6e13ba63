"""Pictures to print, and views to touch: of training, of what a model looks at and reads."""

from minillm.viz.attention import attention_maps, attention_weights, token_names
from minillm.viz.attention_view import AttentionView
from minillm.viz.backoff import back_off_figure, back_off_path, back_off_profile
from minillm.viz.curves import learning_curves, loss_curve
from minillm.viz.gates import cell_text, gate_maps, gate_traces
from minillm.viz.generation_view import GenerationView
from minillm.viz.gradient_flow import gradient_flow
from minillm.viz.languages import bytes_per_token, bytes_per_token_bars, bytes_per_token_table
from minillm.viz.logit_lens import lens_probabilities, logit_lens, residual_stream
from minillm.viz.memory_traffic import (
    bank_accesses,
    sectors,
    traffic,
    traffic_by_rung,
    warp_accesses,
    wavefronts,
)
from minillm.viz.merges import MergesView, merge_figure, merge_steps
from minillm.viz.roofline import roofline
from minillm.viz.source import show_source
from minillm.viz.style import save
from minillm.viz.surprise import SurpriseView
from minillm.viz.tokens import TokenView
from minillm.viz.view import View
from minillm.viz.word_map import principal_components, word_map

__all__ = [
    "AttentionView",
    "GenerationView",
    "MergesView",
    "SurpriseView",
    "TokenView",
    "View",
    "attention_maps",
    "attention_weights",
    "back_off_figure",
    "back_off_path",
    "back_off_profile",
    "bank_accesses",
    "bytes_per_token",
    "bytes_per_token_bars",
    "bytes_per_token_table",
    "cell_text",
    "gate_maps",
    "gate_traces",
    "gradient_flow",
    "learning_curves",
    "lens_probabilities",
    "logit_lens",
    "loss_curve",
    "merge_figure",
    "merge_steps",
    "principal_components",
    "residual_stream",
    "roofline",
    "save",
    "sectors",
    "show_source",
    "token_names",
    "traffic",
    "traffic_by_rung",
    "warp_accesses",
    "wavefronts",
    "word_map",
]
