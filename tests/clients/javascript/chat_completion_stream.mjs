import { InferenceClient } from '@huggingface/inference'

const client = new InferenceClient(process.argv[3])
const stream = client.chatCompletionStream({
  endpointUrl: process.argv[2],
  messages: [{ role: 'user', content: 'How do you make cheese?' }],
  temperature: 0,
  max_tokens: 200,
})
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? '')
}
