import { InferenceClientEndpoint } from '@huggingface/inference'

const hf = new InferenceClientEndpoint(process.argv[3]).endpoint(process.argv[2])
const parameters = { max_new_tokens: 12, temperature: 0.5, top_k: 5, repetition_penalty: 1.1, seed: 7 }
let last
for await (const r of hf.textGenerationStream({ inputs: 'How do you make cheese?', parameters })) {
  last = r
}
process.stdout.write(JSON.stringify(last))
