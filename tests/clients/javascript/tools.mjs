import { InferenceClient } from '@huggingface/inference'

const client = new InferenceClient(process.argv[3])
const parameters = { type: 'object', properties: { city: { enum: ['Paris', 'Rome'] } }, required: ['city'] }
const tools = [{ type: 'function', function: { name: 'get_weather', description: 'The weather.', parameters } }]
const request = {
  endpointUrl: process.argv[2],
  messages: [{ role: 'user', content: 'What is the weather in Paris?' }],
  tools,
  tool_choice: { type: 'function', function: { name: 'get_weather' } },
  temperature: 0,
}
const whole = await client.chatCompletion(request)
const [call] = whole.choices[0].message.tool_calls
let name = ''
let pieces = []
let reason
for await (const chunk of client.chatCompletionStream(request)) {
  for (const part of chunk.choices[0].delta.tool_calls ?? []) {
    name += part.function.name ?? ''
    pieces.push(part.function.arguments)
  }
  reason = chunk.choices[0].finish_reason ?? reason
}
const messages = [
  ...request.messages,
  whole.choices[0].message,
  { role: 'tool', tool_call_id: call.id, content: 'sunny' },
]
const { tool_choice, ...rest } = request
const answer = await client.chatCompletion({ ...rest, messages, max_tokens: 20 })
process.stdout.write(
  JSON.stringify({
    whole: call.function,
    streamed: { name, arguments: pieces.join('') },
    pieces: pieces.length,
    reason,
    answer: answer.choices[0].message.role,
  }),
)
