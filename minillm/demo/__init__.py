"""The main job: six models on one text, from guessing to a GPT, in a few minutes."""

from minillm.demo.run import run_demo

__all__ = ["run_demo"]
