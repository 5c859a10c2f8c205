import { InferenceClient } from '@huggingface/inference'

const client = new InferenceClient(process.argv[3])
try {
  const messages = [{ role: 'user', content: 'Hi' }]
  for await (const _ of client.chatCompletionStream({ endpointUrl: process.argv[2], messages, temperature: -1 })) {
  }
} catch (error) {
  process.stdout.write(`${error.httpResponse.status} ${error.message}`)
}
