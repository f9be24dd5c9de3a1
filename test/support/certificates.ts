/** A throw-away certificate authority and server certificates, by openssl. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { requireTool } from './require-tool.ts';

const run = promisify(execFile);

/** Paths of PEM files. */
export interface Certificates {
  readonly dir: string;
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** Makes an authority and a certificate for `subject` (`IP:127.0.0.1`, `DNS:example.com`); null when openssl is missing. */
export async function makeCertificates(t: TestContext, subject: string): Promise<Certificates | null> {
  const openssl = requireTool(t, 'openssl');
  if (openssl === null) return null;
  const dir = await mkdtemp(join(tmpdir(), 'veneer-ca-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const at = (name: string): string => join(dir, name);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await writeFile(at('server.ext'), `subjectAltName=${subject}\nbasicConstraints=CA:FALSE\n`);
  await run(openssl, [
    ...['req', '-x509', ...newKey, '-days', '2', '-subj', '/CN=veneer test authority'],
    ...['-keyout', at('ca.key'), '-out', at('ca.pem')],
  ]);
  await run(openssl, [
    'req',
    ...newKey,
    '-subj',
    '/CN=veneer test',
    '-keyout',
    at('server.key'),
    '-out',
    at('server.csr'),
  ]);
  await run(openssl, [
    ...[
      'x509',
      '-req',
      '-in',
      at('server.csr'),
      '-CA',
      at('ca.pem'),
      '-CAkey',
      at('ca.key'),
      '-set_serial',
      '2',
    ],
    ...['-days', '2', '-extfile', at('server.ext'), '-out', at('server.pem')],
  ]);
  return { dir, ca: at('ca.pem'), certificate: at('server.pem'), key: at('server.key') };
}
