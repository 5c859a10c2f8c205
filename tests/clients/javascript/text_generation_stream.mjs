// The program of the documentation on token streaming. Its `new HfInferenceEndpoint(url, token)` is written so today.
import { InferenceClientEndpoint } from '@huggingface/inference'

const hf = new InferenceClientEndpoint(process.argv[3]).endpoint(process.argv[2])

// prompt
const prompt = 'What can you do in Nuremberg, Germany? Give me 3 Tips'

const stream = hf.textGenerationStream({ inputs: prompt })
for await (const r of stream) {
  // yield the generated token
  process.stdout.write(r.token.text)
}
