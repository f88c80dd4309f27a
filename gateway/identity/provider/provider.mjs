// Runs an OpenID provider on loopback for the tests: it prints "issuer URL", and
// takes commands from standard input, one JSON object a line:
//   {"keys": [JWK, …]}  starts it anew at the same address with these private keys
// Each client is a system: its ID is "department:role", its secret "secret", and
// its tokens carry both as claims. The audience of a token is the resource asked
// for.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const clients = JSON.parse(process.argv[2]).map((id) => ({
  client_id: id, client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
  id_token_signed_response_alg: 'ES256',
}));

let handler;
const server = createServer((request, response) => handler(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  createInterface({ input: process.stdin }).on('line', (line) => {
    const { keys } = JSON.parse(line);
    const provider = new Provider(issuer, {
      clients,
      jwks: { keys },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => 'urn:nobody',
          getResourceServerInfo: (ctx, resource) => ({
            scope: '', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 60,
            jwt: { sign: { alg: keys[0].alg } },
          }),
        },
      },
      extraTokenClaims: (ctx, token) => {
        const [department, role] = token.clientId.split(':');
        return { zhenglian_department: department, zhenglian_role: role.includes(',') ? role.split(',') : role };
      },
    });
    handler = provider.callback();
    process.stdout.write(`issuer ${issuer}\n`);
  }).on('close', () => process.exit(0));
});
