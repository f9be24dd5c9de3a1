/** One member: its header block and the extensions before it, decoded into a {@link TarEntry}. */
import { displayByteString } from '../bytes/byte-string.ts';
import { type ErrorCode, VeneerError } from '../errors.ts';
import type { FindingList } from '../findings.ts';
import type { EntryType, TarEntry } from './entry.ts';
import type { Extensions } from './extensions.ts';
import { BLOCK, detectFormat, hasMisplacedPrefix, parseNumber, textEnd, USTAR } from './header.ts';
import { latin1 } from './latin1.ts';
import type { TarLimits } from './limits.ts';
import type { PaxFields } from './pax.ts';

const { mode, uid, gid, size, mtime, typeflag, linkname, devmajor, devminor, prefix } = USTAR.at;

/** (uid_t)-1 is the largest that 32 bits hold. */
const MAX_ID = 0xffff_ffff;
/** Linux has 12 bits for the major and 20 for the minor number (linux/kdev_t.h). */
const MAX_DEV_MAJOR = 0xfff;
const MAX_DEV_MINOR = 0xf_ffff;
const SLASH = 0x2f;

/**
 * What follows a member's header.
 * `data`: its payload, of `stored` bytes. `skip`: the same, of a member that is left out (`entry` is null).
 * `doubtful`: a type without payload states a size; only the next block can tell.
 * `old-sparse`, `text-sparse`: the rest of a sparse map, then data.
 */
export type Sequel = 'data' | 'skip' | 'doubtful' | 'old-sparse' | 'text-sparse';

export class MemberDecoder {
  /** The entry decoded last; null when it is left out. */
  entry: TarEntry | null = null;
  /** Bytes the member states it has in the archive. */
  stored = 0;
  readonly #limits: TarLimits;
  readonly #log: FindingList;
  readonly #extensions: Extensions;
  /** For errors. */
  #path = '';
  #offset = 0;

  constructor(limits: TarLimits, log: FindingList, extensions: Extensions) {
    this.#limits = limits;
    this.#log = log;
    this.#extensions = extensions;
  }

  /** Decodes the header block at `at`, which stands at `offset` in the archive. */
  decode(block: Buffer, at: number, offset: number): Sequel {
    const extensions = this.#extensions;
    const fields = extensions.fields;
    this.#offset = offset;
    this.#path = '';
    let path = this.#name(block, at, fields);
    this.#path = path;
    const stored =
      fields !== null && fields.size >= 0 ? fields.size : this.#number(block, at + size, 12, 'size', 0);
    if (stored > Number.MAX_SAFE_INTEGER - offset - 2 * BLOCK) {
      throw this.error('tar/corrupt', 'its data would end beyond any file');
    }
    this.stored = stored;

    const flag = block[at + typeflag]!;
    let sequel: Sequel = 'data';
    let type: EntryType;
    switch (flag) {
      case 0x30: // 0
      case 0x00:
      case 0x37: // 7, a contiguous file: no file system here has such
        type = 'file';
        // v7 had no directories but names with a slash behind them.
        if (path.charCodeAt(path.length - 1) === SLASH) {
          type = 'dir';
          sequel = 'doubtful';
        }
        break;
      case 0x31: // 1
        type = 'link';
        sequel = 'doubtful';
        break;
      case 0x32: // 2
        type = 'symlink';
        sequel = 'doubtful';
        break;
      case 0x33: // 3
        type = 'char';
        sequel = 'doubtful';
        break;
      case 0x34: // 4
        type = 'block';
        sequel = 'doubtful';
        break;
      case 0x35: // 5
        type = 'dir';
        sequel = 'doubtful';
        break;
      case 0x36: // 6
        type = 'fifo';
        sequel = 'doubtful';
        break;
      case 0x44: // D, a directory of an incremental GNU archive: its data is a list of names
        type = 'dir';
        break;
      case 0x53: // S
        type = 'file';
        sequel = 'old-sparse';
        break;
      default:
        return this.#leaveOut('tar/unknown-type', describeFlag(flag));
    }
    if (path === '') {
      // GNU tar takes '.' for an empty name, which only a directory can be.
      if (type !== 'dir') return this.#leaveOut('tar/empty-name', 'an entry without a name is left out');
      this.#log.add('tar/empty-name', "a directory without a name is taken for '.'", offset, '.');
      path = '.';
    }

    let linkPath = '';
    if (type === 'link' || type === 'symlink') linkPath = this.#target(block, at, fields, type);
    let major = 0;
    let minor = 0;
    if (type === 'char' || type === 'block') {
      if (detectFormat(block, at) !== 'v7') {
        major = this.#number(block, at + devmajor, 8, 'devmajor', 0);
        minor = this.#number(block, at + devminor, 8, 'devminor', 0);
      }
      if (fields !== null && fields.devMajor >= 0) major = fields.devMajor;
      if (fields !== null && fields.devMinor >= 0) minor = fields.devMinor;
      if (major > MAX_DEV_MAJOR || minor > MAX_DEV_MINOR) {
        throw this.error('tar/corrupt', `device ${major}:${minor} is beyond what Linux can number`);
      }
    }
    const isFile = type === 'file';
    const entry: TarEntry = {
      path,
      type,
      mode: this.#number(block, at + mode, 8, 'mode', 0) % 0o10000,
      uid: fields !== null && fields.uid >= 0 ? fields.uid : this.#number(block, at + uid, 8, 'uid', 0),
      gid: fields !== null && fields.gid >= 0 ? fields.gid : this.#number(block, at + gid, 8, 'gid', 0),
      size: isFile ? stored : 0,
      mtime: fields?.hasMtime
        ? fields.mtime
        : this.#number(block, at + mtime, 12, 'mtime', Number.MIN_SAFE_INTEGER),
      mtimeNsec: fields?.hasMtime ? fields.mtimeNsec : 0,
      linkPath,
      devMajor: major,
      devMinor: minor,
      headerOffset: extensions.headerOffset >= 0 ? extensions.headerOffset : offset,
      payloadOffset: offset + BLOCK,
      payloadSize: stored,
      xattrs: null,
      sparse: null,
    };
    if (entry.uid > MAX_ID || entry.gid > MAX_ID) {
      throw this.error('tar/corrupt', `owner ${entry.uid}:${entry.gid} is beyond 32 bits`);
    }
    this.entry = entry;
    if (fields !== null) {
      this.#takeXattrs(fields, entry);
      if (fields.sparse !== null) sequel = this.#paxSparse(fields, type, flag);
    }
    if (sequel === 'old-sparse' && detectFormat(block, at) !== 'gnu') {
      throw this.error('tar/corrupt', 'it is a sparse file of a dialect that is not known');
    }
    return sequel === 'doubtful' && stored === 0 ? 'data' : sequel;
  }

  /** An error about the member decoded last; the offset is that of its header. */
  error(code: ErrorCode, reason: string, offset = this.#offset): VeneerError {
    const name = displayByteString(this.#path);
    return new VeneerError(code, `Cannot read the tar entry '${name}': ${reason}, at offset ${offset}`);
  }

  /** The name: PAX, else GNU long name, else the header's. */
  #name(block: Buffer, at: number, fields: PaxFields | null): string {
    const long = this.#extensions.longName;
    const pax = fields === null ? null : (fields.sparse?.name ?? fields.path);
    if (pax !== null || long !== null) return this.#choose(pax, long, 'name');
    const name = latin1(block, at, textEnd(block, at, 100));
    if (block[at + prefix] === 0) return name;
    let width = 155;
    switch (detectFormat(block, at)) {
      case 'ustar':
        break;
      case 'star':
        width = 131;
        break;
      case 'gnu':
        if (!hasMisplacedPrefix(block, at)) return name;
        this.#log.add(
          'tar/misplaced-prefix',
          'a GNU header holds a name prefix, as old Go programs wrote it',
          this.#offset,
          name,
        );
        break;
      default:
        return name;
    }
    const start = at + prefix;
    return `${latin1(block, start, textEnd(block, start, width))}/${name}`;
  }

  #target(block: Buffer, at: number, fields: PaxFields | null, type: 'link' | 'symlink'): string {
    const long = this.#extensions.longLink;
    const pax = fields === null ? null : fields.linkPath;
    let target: string;
    if (pax !== null || long !== null) {
      target = this.#choose(pax, long, 'link target');
    } else {
      const start = at + linkname;
      target = latin1(block, start, textEnd(block, start, 100));
    }
    if (target === '') throw this.error('tar/corrupt', 'it is a link to nothing');
    const limit = this.#limits.symlinkBytes;
    if (type === 'symlink' && target.length > limit) {
      throw this.error('tar/limit', `its target has ${target.length} bytes, the limit is ${limit}`);
    }
    return target;
  }

  /** GNU tar lets PAX win over a GNU long name, Go's reader the long name: a member with both is one thing to each. */
  #choose(pax: string | null, long: string | null, what: string): string {
    if (pax !== null && long !== null && pax !== long) {
      this.#path = pax;
      throw this.error('tar/corrupt', `a PAX header and a GNU header give it two different ${what}s`);
    }
    const text = pax ?? long!;
    if (text.length > this.#limits.pathBytes) {
      throw this.error(
        'tar/limit',
        `its ${what} has ${text.length} bytes, the limit is ${this.#limits.pathBytes}`,
      );
    }
    return text;
  }

  #number(block: Buffer, at: number, width: number, field: string, least: number): number {
    const value = parseNumber(block, at, width);
    if (value >= least && value <= Number.MAX_SAFE_INTEGER) return value;
    const reason = Number.isNaN(value) ? 'not a number' : value < least ? 'too small' : 'too large';
    throw this.error('tar/corrupt', `its ${field} field is ${reason}`);
  }

  #takeXattrs(fields: PaxFields, entry: TarEntry): void {
    const xattrs = fields.allXattrs();
    if (xattrs !== null && xattrs.size > 0) {
      let bytes = 0;
      for (const [name, value] of xattrs) bytes += name.length + value.length;
      if (xattrs.size > this.#limits.xattrs || bytes > this.#limits.xattrBytes) {
        throw this.error(
          'tar/limit',
          `its ${xattrs.size} extended attributes of ${bytes} bytes are too many`,
        );
      }
      entry.xattrs = xattrs;
    }
    if (fields.oddities !== null) {
      for (const keyword of fields.oddities) {
        const text = `the PAX keyword '${displayByteString(keyword)}' is not kept`;
        this.#log.add('tar/pax-keyword', text, this.#offset, entry.path);
      }
    }
  }

  #paxSparse(fields: PaxFields, type: EntryType, flag: number): Sequel {
    const sparse = fields.sparse!;
    if (type !== 'file' || flag === 0x53) {
      throw this.error('tar/corrupt', 'it has PAX sparse records and is of another type');
    }
    const problem = sparse.check();
    if (problem !== null) throw this.error('tar/corrupt', problem);
    return 'text-sparse';
  }

  #leaveOut(code: string, message: string): Sequel {
    this.entry = null;
    this.#log.add(code, message, this.#offset, this.#path);
    return 'skip';
  }
}

/** Why a typeflag has no place in a tree (GNU tar manual, "Extensions to the tar Archive Format"). */
function describeFlag(flag: number): string {
  switch (flag) {
    case 0x4d: // M
      return 'the rest of a file begun in another volume is left out';
    case 0x56: // V
      return 'a volume label is left out';
    case 0x4e: // N
      return 'a list of long names of the oldest GNU tar is left out';
    case 0x41: // A
      return 'a Solaris access control list is left out';
    default: {
      const shown = flag > 0x20 && flag < 0x7f ? `'${String.fromCharCode(flag)}'` : `0x${flag.toString(16)}`;
      return `an entry of the unknown type ${shown} is left out`;
    }
  }
}
