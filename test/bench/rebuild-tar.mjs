/** rebuild-tar.mjs LAYOUT SOURCE OUT: the tar of the one layer delta in a layout, written and hashed, by the built code. */
import { openSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readHeader } from '../../dist/delta/format.js';
import { PieceRing } from '../../dist/delta/piece-ring.js';
import { rebuildTar } from '../../dist/delta/rebuild.js';
import { PIECES_AHEAD, writeTar } from '../../dist/delta-image/write-tar.js';
import { fileSource } from '../../dist/store/data-files.js';

const [layout, source, out] = process.argv.slice(2);
const open = (path) => fileSource(openSync(path, 'r'), path);
const blobs = readdirSync(join(layout, 'blobs/sha256')).map((name) => join(layout, 'blobs/sha256', name));
const delta = open(blobs.sort((a, b) => statSync(b).size - statSync(a).size)[0]);
const pieces = rebuildTar(delta, () => open(source), { ring: new PieceRing(PIECES_AHEAD) });
const { digest } = await writeTar(pieces, out);
const { target } = readHeader((at, length) => delta.read(at, length), delta.size);
if (digest !== target.digest) process.exit(1);
