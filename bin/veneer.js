#!/usr/bin/env node
// The launcher. Plain JavaScript that old Node versions can parse: it finds a Node that is new enough,
// answers --version without loading anything, and otherwise hands over to the command line in dist/ (or src/).
// CommonJS: loading the first ES module costs more than all of this file.
const { existsSync, mkdirSync, readFileSync, statSync } = require('node:fs');
const module_ = require('node:module');
const { dirname, join } = require('node:path');

const WANTED_MAJOR = 24;
const self = __filename;
const project = dirname(dirname(self));

if (process.argv[2] === '--version' && process.argv.length === 3) {
  const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
  process.stdout.write(`veneer ${version}\n`);
} else if (Number.parseInt(process.versions.node, 10) < WANTED_MAJOR) {
  runWithNewerNode();
} else {
  // It is for this start only, not for whatever is started from here.
  delete process.env.VENEER_LAUNCHED;
  // Waiting for a disk must not take the thread pool from whoever inflates in it.
  process.env.UV_THREADPOOL_SIZE ??= '12';
  hideKnownWarnings();
  useCompileCache();
  const built = join(project, 'dist/program/main.cjs');
  const source = join(project, 'src/cli/main.ts');
  const fromSource = process.env.VENEER_FROM_SOURCE === '1' || !existsSync(built);
  require(fromSource ? source : built).main(process.argv.slice(2));
}

/** Runs the same command with the nearest node_modules/.bin/node above this file; never one from the working directory. */
function runWithNewerNode() {
  const node = process.env.VENEER_LAUNCHED ? undefined : findNode(dirname(self));
  if (node === undefined) {
    const isClone = existsSync(join(project, 'package-lock.json'));
    process.stderr.write(
      `veneer: Cannot start: this is Node ${process.versions.node}, and veneer needs Node ${WANTED_MAJOR} or newer\n` +
        `hint: install Node ${WANTED_MAJOR}${isClone ? `, or run "npm ci" in ${project}, which brings one along` : ''}\n`,
    );
    process.exitCode = 1;
    return;
  }
  const { spawn } = require('node:child_process');
  const child = spawn(node, [...process.execArgv, self, ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, VENEER_LAUNCHED: '1' },
  });
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
  // A terminal sends Ctrl-C to both processes, `kill` only to this one: pass all on, the child ignores the echo.
  const forward = (signal) => child.kill(signal);
  for (const signal of signals) process.on(signal, forward);
  child.on('error', (error) => {
    process.stderr.write(`veneer: Cannot start ${node}: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    for (const name of signals) process.removeListener(name, forward);
    if (signal === null) process.exitCode = code;
    else process.kill(process.pid, signal);
  });
}

function findNode(from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules/.bin/node');
    if (existsSync(candidate)) return candidate;
    if (dirname(folder) === folder) return undefined;
  }
}

/** node:sqlite calls itself experimental on stderr, which would break every quiet run. */
function hideKnownWarnings() {
  const emit = process.emitWarning;
  process.emitWarning = (warning, ...rest) => {
    if (!/SQLite is an experimental feature/.test(String(warning))) emit.call(process, warning, ...rest);
  };
}

/**
 * Compiled code is cached in the user's own cache folder. One that somebody else owns is not trusted, nor is anything
 * made in somebody else's home: root with a user's HOME would leave folders there that the user cannot write to.
 */
function useCompileCache() {
  const base = process.env.XDG_CACHE_HOME || (process.env.HOME && join(process.env.HOME, '.cache'));
  if (!base || typeof module_.enableCompileCache !== 'function') return;
  try {
    const me = process.getuid();
    if ((statSync(base, { throwIfNoEntry: false }) ?? statSync(dirname(base))).uid !== me) return;
    const folder = join(base, 'veneer', 'compile');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(folder);
    if (uid === me && (mode & 0o022) === 0) module_.enableCompileCache(folder);
  } catch {
    // A cache is only a help: a read-only home must not stop the command.
  }
}
