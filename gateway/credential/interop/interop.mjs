// Issues, presents and verifies SD-JWTs with @sd-jwt/core, and reads signed status
// lists with WebCrypto and zlib, for the tests of gateway/credential: one JSON job on standard input, one JSON answer on standard
// output. What is refused is an answer too, {"refused": "…"}.
import { createHash, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import { gunzipSync } from 'node:zlib'
import { SDJwtInstance } from '@sd-jwt/core'

const { subtle } = webcrypto
const ecdsa = { name: 'ECDSA', hash: 'SHA-256' }
const p256 = { name: 'ECDSA', namedCurve: 'P-256' }
const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551')

const base = {
  hasher: (data) => createHash('sha256').update(typeof data === 'string' ? data : new Uint8Array(data)).digest(),
  hashAlg: 'sha-256',
  saltGenerator: () => randomBytes(16).toString('base64url'),
}

async function verifier(jwk) {
  const key = await subtle.importKey('jwk', jwk, p256, false, ['verify'])
  return (data, signature) => subtle.verify(ecdsa, key, Buffer.from(signature, 'base64url'), Buffer.from(data))
}

// signer signs with low S, which the profile requires and ES256 does not.
async function signer(jwk) {
  const key = await subtle.importKey('jwk', jwk, p256, false, ['sign'])
  return async (data) => {
    const signature = Buffer.from(await subtle.sign(ecdsa, key, Buffer.from(data)))
    const s = BigInt('0x' + signature.subarray(32).toString('hex'))
    if (s > order / 2n) Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex').copy(signature, 32)
    return signature.toString('base64url')
  }
}

const jobs = {
  async verify({ credential, key, at }) {
    const instance = new SDJwtInstance({ ...base, verifier: await verifier(key) })
    const { payload, header } = await instance.verify(credential, { currentDate: at })
    return { payload, header }
  },
  async present({ credential, frame }) {
    return { credential: await new SDJwtInstance(base).present(credential, frame) }
  },
  async list({ list, root }) {
    const [head, body, signature, ...more] = list.split('.')
    const header = JSON.parse(Buffer.from(head, 'base64url'))
    const certificate = new X509Certificate(Buffer.from(header.x5c[0], 'base64'))
    if (!certificate.verify(new X509Certificate(Buffer.from(root, 'base64')).publicKey)) throw new Error('certificate')
    const key = certificate.publicKey.export({ format: 'jwk' })
    if (more.length > 0 || !(await (await verifier(key))(`${head}.${body}`, signature))) throw new Error('signature')
    const payload = Buffer.from(body, 'base64url').toString()
    const bits = gunzipSync(Buffer.from(JSON.parse(payload).credentialSubject.encodedList.slice(1), 'base64url'))
    const ones = []
    for (let i = 0; i < bits.length * 8; i++) if (bits[i >> 3] & (0x80 >> (i & 7))) ones.push(i)
    return { header, payload: JSON.parse(payload), ones, length: bits.length * 8 }
  },
  async issue({ payload, frame, header, type, key }) {
    class Issuing extends SDJwtInstance {
      type = type
    }
    const instance = new Issuing({ ...base, signer: await signer(key), signAlg: 'ES256' })
    return { credential: await instance.issue(payload, frame, { header }) }
  },
}

let input = ''
for await (const chunk of process.stdin) input += chunk
const job = JSON.parse(input)
let answer
try {
  answer = await jobs[job.op](job)
} catch (error) {
  answer = { refused: String(error) }
}
process.stdout.write(JSON.stringify(answer))
