// issue.mjs ISSUER AUDIENCE: prints as JSON a JWK Set of new keys, good tokens by their algorithms, and bad ones by what is
// wrong with them, all made by jose.

import { CompactSign, SignJWT, UnsecuredJWT, exportJWK, exportSPKI, generateKeyPair, generateSecret } from 'jose';

const RSA = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const SECRETS = ['HS256', 'HS384', 'HS512'];
const HOUR = 3600;
const [issuer, audience] = process.argv.slice(2);
const now = Math.floor(Date.now() / 1000);
const claims = { iss: issuer, aud: [audience, 'other'], sub: 'alice', iat: now, exp: now + HOUR };
const wrong = {
  expired: { iat: now - 2 * HOUR, exp: now - HOUR },
  'not valid yet': { nbf: now + HOUR },
  'for another audience': { aud: [`${audience}2`, 'other'] },
  'of another issuer': { iss: `${issuer}/` },
};
const keys = [];
const [good, bad] = [{}, {}];

// A pair for each algorithm; of a secret both are the same.
async function pair(algorithm) {
  const options = { extractable: true };
  if (!SECRETS.includes(algorithm)) return generateKeyPair(algorithm, options);
  const secret = await generateSecret(algorithm, options);
  return { privateKey: secret, publicKey: secret };
}

function token(alg, key, more = {}) {
  return new SignJWT({ ...claims, ...more }).setProtectedHeader({ alg, kid: alg, typ: 'JWT' }).sign(key);
}

function encoded(part) {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}

for (const alg of [...SECRETS, ...RSA, 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']) {
  const [{ privateKey, publicKey }, other] = [await pair(alg), await pair(alg)];
  keys.push({ ...(await exportJWK(publicKey)), kid: alg, alg, use: 'sig' });
  good[alg] = await token(alg, privateKey);
  bad[`${alg}, by another key`] = await token(alg, other.privateKey);
  for (const [what, more] of Object.entries(wrong)) bad[`${alg}, ${what}`] = await token(alg, privateKey, more);
  const critical = new SignJWT(claims).setProtectedHeader({ alg, kid: alg, crit: ['x'], x: 1 });
  bad[`${alg}, with what has to be understood`] = await critical.sign(privateKey, { crit: { x: true } });
  const [head, , tag] = good[alg].split('.');
  bad[`${alg}, changed`] = `${head}.${encoded({ ...claims, sub: 'root' })}.${tag}`;
  if (!RSA.includes(alg)) continue;
  // The public key as a secret that everybody knows.
  const jwk = await exportJWK(publicKey);
  for (const [what, text] of [['PEM', await exportSPKI(publicKey)], ['JWK', JSON.stringify(jwk)], ['modulus', jwk.n]]) {
    for (const hmac of SECRETS) {
      for (const kid of [alg, hmac]) {
        const signing = new SignJWT(claims).setProtectedHeader({ alg: hmac, kid });
        bad[`${hmac}, by the ${what} of ${alg} as ${kid}`] = await signing.sign(new TextEncoder().encode(text));
      }
    }
  }
}
bad.none = new UnsecuredJWT(claims).encode();
const text = new CompactSign(new TextEncoder().encode('no claims')).setProtectedHeader({ alg: 'HS256', kid: 'HS256' });
bad['no claims'] = await text.sign(Buffer.from(keys[0].k, 'base64url'));
console.log(JSON.stringify({ jwks: { keys }, good, bad }));
