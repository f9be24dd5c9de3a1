/** An image as a dm-verity device, Documentation/admin-guide/device-mapper/verity.rst: loop devices, linear, verity. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeneerError } from '../errors.ts';
import { type MapperTarget, makeDevice } from '../sys/device-mapper.ts';
import { addUserKey } from '../sys/keys.ts';
import { attachLoop } from '../sys/loop.ts';
import type { VerityDisk } from './types.ts';

const SECTOR = 512;
const HASH_BLOCK_SIZE = 4096;
/** Sectors that stand in no file, below the mount's entry. */
const TAILS = 'tail-sectors';

/**
 * Sets the device up and returns its path; `opened` receives what keeps it alive until it is mounted. All goes away with
 * its last user. `scratch`: a directory that lives as long as the mount.
 */
export function openVerityDisk(disk: VerityDisk, scratch: string, opened: number[]): string {
  const flat = makeDevice(linearTargets(disk, scratch, opened));
  opened.push(flat.fd);
  const { dataBlocks, dataBlockSize, hashOffset, rootHash, salt, signature } = disk;
  const hashStart = Math.ceil((hashOffset + SECTOR) / HASH_BLOCK_SIZE);
  const words = [1, flat.path, flat.path, dataBlockSize, HASH_BLOCK_SIZE, dataBlocks, hashStart];
  let parameters = `${words.join(' ')} sha256 ${rootHash} ${salt || '-'}`;
  if (signature !== undefined) {
    const description = `veneer:${rootHash.slice(0, 16)}`;
    addUserKey(description, signature);
    parameters += ` 2 root_hash_sig_key_desc ${description}`;
  }
  const sectors = (dataBlocks * dataBlockSize) / SECTOR;
  const checked = explainVerityError(() => makeDevice([{ type: 'verity', sectors, parameters }]), rootHash);
  opened.push(checked.fd);
  return checked.path;
}

function linearTargets(disk: VerityDisk, scratch: string, opened: number[]): MapperTarget[] {
  const loops = new Map<string, string>();
  const loopOf = (path: string): string => {
    let loop = loops.get(path);
    if (loop === undefined) {
      const attached = attachLoop(path, SECTOR);
      opened.push(attached.fd);
      loops.set(path, (loop = attached.path));
    }
    return loop;
  };
  const tails = disk.runs.flatMap(({ file }) => (Buffer.isBuffer(file) ? [file] : []));
  const tailsPath = join(scratch, TAILS);
  if (tails.length > 0) writeFileSync(tailsPath, Buffer.concat(tails), { mode: 0o400 });
  let tailAt = 0;
  return disk.runs.map(({ sectors, file }): MapperTarget => {
    const { path, at } = Buffer.isBuffer(file) ? { path: tailsPath, at: tailAt } : file;
    if (Buffer.isBuffer(file)) tailAt += file.length;
    return { type: 'linear', sectors, parameters: `${loopOf(path)} ${at / SECTOR}` };
  });
}

function explainVerityError<T>(call: () => T, rootHash: string): T {
  try {
    return call();
  } catch (cause) {
    if (!(cause instanceof VeneerError)) throw cause;
    if (/ENOKEY|EKEYREJECTED|EBADMSG/.test(cause.message)) {
      throw new VeneerError(
        'verity/mismatch',
        `Cannot open the disk with the root hash ${rootHash}: the kernel does not accept its signature`,
        {
          hint: 'The certificate must be in the kernel: CONFIG_SYSTEM_TRUSTED_KEYS, or the secondary keyring.',
          cause,
        },
      );
    }
    if (/EINVAL/.test(cause.message)) {
      throw new VeneerError(
        'mount/unsupported',
        'Cannot use dm-verity: this kernel has no such target, or refuses its parameters',
        { hint: 'modprobe dm-verity; the kernel log says more (dmesg)', cause },
      );
    }
    throw cause;
  }
}
