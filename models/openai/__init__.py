"""Any chat endpoint with OpenAI's interface: vLLM, SGLang, LMDeploy, GPT, Gemini. Importing this imports no client."""

from .settings import OpenAI

__all__ = ["OpenAI"]
