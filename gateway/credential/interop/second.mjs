// Has the verifier in proof/js check credentials, for the tests of gateway/credential:
// node second.mjs VERIFIER, a JSON job on standard input with bytes in base64, a JSON
// answer on standard output.
import { pathToFileURL } from 'node:url'

const { verifyCredential } = await import(pathToFileURL(process.argv[2]))
let input = ''
for await (const chunk of process.stdin) input += chunk
const { trust, credentials } = JSON.parse(input)
const answers = {}
for (const [name, bytes] of Object.entries(credentials)) {
  answers[name] = await verifyCredential(Buffer.from(bytes, 'base64').toString(), Buffer.from(trust, 'base64'))
}
process.stdout.write(JSON.stringify(answers))
