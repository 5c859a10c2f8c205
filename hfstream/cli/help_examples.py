"""The examples below the help of each command, by its name. Does not depend on its options."""

from __future__ import annotations

__all__ = ["EXAMPLES"]

EXAMPLES = {
    "generate": """\
examples:
  hfstream generate "How do you make cheese?"
  hfstream generate "What is Deep Learning?" --url http://127.0.0.1:8080 --max-new-tokens 20
  hfstream generate "Tell me a joke" --temperature 0.9 --seed 7 --details
  hfstream generate "Once upon a time" --url http://127.0.0.1:8000/v1 --model my-model
  echo "How do you make cheese?" | hfstream generate --json | jq .token.text
""",
    "chat": """\
examples:
  hfstream chat
  hfstream chat --url http://127.0.0.1:11434/v1 --model llama3.2 --system "Be brief."
""",
    "serve": """\
examples:
  hfstream serve
  hfstream serve --port 9000 --max-concurrent-requests 8 --tokens-per-second 30
  HFSTREAM_API_KEY=secret hfstream serve --model ./my-checkpoint
  hfstream serve --model HuggingFaceTB/SmolLM2-135M-Instruct --served-model-name smollm2
  hfstream serve --upstream http://127.0.0.1:8000/v1 --max-concurrent-requests 256
""",
    "demo": """\
examples:
  hfstream demo
  hfstream demo "What is Deep Learning?" --url http://127.0.0.1:8080
""",
    "map": """\
examples:
  hfstream map prompts.jsonl --url http://127.0.0.1:8080 --journal answers.journal > answers.jsonl
  hfstream map --url http://127.0.0.1:8080 --max-new-tokens 20 < prompts.jsonl | jq -r .output
  echo '"How do you make cheese?"' | hfstream map

a line of FILE is one of these, as JSON:
  "How do you make cheese?"
  {"prompt": "How do you make cheese?", "seed": 7}
  {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}

a line of the output is one of these:
  {"index": 0, "output": "..."}
  {"index": 1, "error": {"type": "ValidationError", "message": "...", "status_code": 422}}
""",
    "bench": """\
examples:
  hfstream bench http://127.0.0.1:8080
  hfstream bench http://127.0.0.1:8080 --concurrency 1,4,16 --requests 100 --plot bench.svg
""",
    "mock": """\
examples:
  hfstream mock rules.yaml
  hfstream mock rules.json --port 9000 --speed inf
  hfstream mock tape.jsonl --match path
""",
    "record": """\
examples:
  hfstream record http://127.0.0.1:8080 tape.jsonl
  hfstream record https://api.openai.com/v1 tape.jsonl --append
""",
    "chaos": """\
examples:
  hfstream chaos http://127.0.0.1:8080
  hfstream chaos http://127.0.0.1:8080 --faults cut,reset --every 2000 --seed 7
""",
    "doctor": """\
examples:
  hfstream doctor http://127.0.0.1:8080
  hfstream doctor https://llm.example.com/v1 --model my-model --json | jq -r .diagnosis

exit codes: 0 nothing to mend, 1 it does not stream, 3 it streams, but something should be changed
""",
}
