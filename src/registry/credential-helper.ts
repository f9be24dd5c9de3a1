/** Docker's credential helpers: `docker-credential-NAME get`, the server on stdin, JSON on stdout (docker/docker-credential-helpers). */
import { spawn } from 'node:child_process';
import * as v from 'valibot';
import { VeneerError } from '../errors.ts';
import type { CredentialSearch } from './credentials.ts';

export interface HelperAnswer {
  /** `<token>` says that the secret is an identity token. */
  readonly username: string;
  readonly secret: string;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const MAX_OUTPUT = 64 << 10;
/** What helpers print when they have nothing for a server; the exit code alone does not tell. */
const NOT_FOUND =
  /credentials not found in native keychain|no credentials server URL|no credentials username/;

const answerSchema = v.object({ Username: v.string(), Secret: v.string() });

/** Asks a helper for `server`; null when it has nothing. Throws `registry/credentials`, never with what the helper printed. */
export async function askHelper(
  name: string,
  server: string,
  search: CredentialSearch,
): Promise<HelperAnswer | null> {
  const program = `docker-credential-${name}`;
  if (!NAME.test(name))
    throw new VeneerError(
      'registry/credentials',
      'Cannot run a credential helper: its name has odd characters',
    );
  const { code, output } = await run(program, server, search);
  if (code !== 0) {
    if (NOT_FOUND.test(output)) return null;
    throw failure(program, `it failed with exit code ${code}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(output);
  } catch {
    throw failure(program, 'its answer is not JSON');
  }
  const answer = v.safeParse(answerSchema, value);
  if (!answer.success) throw failure(program, 'its answer has no Username and Secret');
  const { Username: username, Secret: secret } = answer.output;
  return username === '' && secret === '' ? null : { username, secret };
}

function run(
  program: string,
  server: string,
  search: CredentialSearch,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { stdio: ['pipe', 'pipe', 'ignore'], env: search.env });
    const chunks: Buffer[] = [];
    let length = 0;
    const stop = (reason: string): void => {
      child.kill('SIGKILL');
      child.stdout.destroy();
      reject(failure(program, reason));
    };
    const timer = setTimeout(
      () => stop(`no answer within ${search.helperTimeout / 1000} s`),
      search.helperTimeout,
    );
    child.stdout.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_OUTPUT) stop('its answer is too long');
      else chunks.push(chunk);
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(
        failure(
          program,
          error.code === 'ENOENT' ? 'it is not installed' : (error.code ?? 'it cannot be started'),
        ),
      );
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code === null) reject(failure(program, `it was ended by ${signal}`));
      else resolve({ code, output: Buffer.concat(chunks).toString('utf8') });
    });
    // A helper that exits without reading is judged by its exit code.
    child.stdin.on('error', () => {});
    child.stdin.end(server);
  });
}

function failure(program: string, reason: string): VeneerError {
  return new VeneerError('registry/credentials', `Cannot get credentials from ${program}: ${reason}`, {
    hint: "Install or unlock the helper, or take it out of docker's config.json (credsStore, credHelpers).",
  });
}
