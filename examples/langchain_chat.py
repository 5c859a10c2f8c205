"""You will see LangChain stream a response of the reference server. Needs ``pip install langchain-openai``.

LangChain uses the openai client, which works with any server that has OpenAI's routes.
"""

import sys

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

model = ChatOpenAI(base_url=f"{url}/v1", api_key=SecretStr("-"), model="bundled", temperature=0)
for chunk in model.stream("How do you make cheese?"):
    print(chunk.text, end="", flush=True)
print()
