/**
 * Names and link targets in OSTA compressed Unicode (CS0, UDF 2.1.1), in two ways:
 *
 * - `bytes`: every byte is one character. Mounted with `iocharset=iso8859-1` all byte strings come back as they were.
 * - `unicode`: names are UTF-8 and become Unicode, as every UDF reader expects; that is what a mount without options shows.
 */
import {
  COMPONENT_NAME,
  COMPONENT_PARENT,
  COMPONENT_ROOT,
  COMPONENT_SELF,
  CS0_8_BIT,
  CS0_16_BIT,
  PATH_COMPONENT,
  UDF_BLOCK,
} from './format.ts';

export type NameEncoding = 'bytes' | 'unicode';

/** `LengthofFileIdentifier` is one byte, and counts the byte that says how many bits a character has. */
const CS0_MAX = 255;
/** What the kernel gives back at most, bytes (`UDF_NAME_LEN`). */
const NAME_MAX = 254;
/** A link's components must fit one block, or the kernel does not read it. */
const TARGET_MAX = UDF_BLOCK;

const EIGHT = String.fromCharCode(CS0_8_BIT);
const SIXTEEN = String.fromCharCode(CS0_16_BIT);
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Names whose beginning, without what looks like an extension, is `.` or `..`: the kernel shows `..two` as
 * `.#5A47.two` (`udf_name_from_CS0` in fs/udf/unicode.c, extensions of up to four characters).
 */
const SHOWN_OTHERWISE = /^\.{1,2}\.[^.]{1,4}$/s;

/** Why `name` cannot be stored, or null when {@link encodeName} can. */
export function whyNoName(name: string, encoding: NameEncoding): string | null {
  if (name.length > NAME_MAX) return `the name has ${name.length} bytes, UDF has room for ${NAME_MAX}`;
  const text = encoding === 'bytes' || isAscii(name) ? name : decodeUtf8(name);
  if (text === null) return 'the name is not UTF-8';
  if (SHOWN_OTHERWISE.test(text)) return 'Linux shows dots before a short extension as another name';
  if (text === name) return null;
  if (isEightBit(text) || 1 + 2 * text.length <= CS0_MAX) return null;
  return `the name has ${text.length} UTF-16 units, UDF has room for ${(CS0_MAX - 1) / 2}`;
}

/** The name in CS0 as a byte string; it must be one that {@link whyNoName} has nothing against. */
export function encodeName(name: string, encoding: NameEncoding): string {
  if (encoding === 'bytes' || isAscii(name)) return EIGHT + name;
  const text = decodeUtf8(name)!;
  if (isEightBit(text)) return EIGHT + text;
  let encoded = SIXTEEN;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    encoded += String.fromCharCode(unit >> 8, unit & 0xff);
  }
  return encoded;
}

/** The byte string that a CS0 byte string stands for, or null when it is none. */
export function decodeName(encoded: string, encoding: NameEncoding): string | null {
  const bits = encoded.charCodeAt(0);
  const body = encoded.slice(1);
  if (bits === CS0_8_BIT) {
    return encoding === 'bytes' || isAscii(body) ? body : Buffer.from(body, 'utf8').toString('latin1');
  }
  if (bits !== CS0_16_BIT || encoding === 'bytes' || body.length % 2 !== 0) return null;
  const swapped = Buffer.from(body, 'latin1').swap16();
  return Buffer.from(swapped.toString('utf16le'), 'utf8').toString('latin1');
}

/** A link target as path components. */
export interface EncodedTarget {
  /** The components as a byte string. */
  readonly encoded: string;
  /** Slashes were lost that components have no place for: it leads to the same place, but reads differently. */
  readonly shortened: boolean;
}

/** Encodes a link target, or says why that cannot be done. */
export function encodeTarget(target: string, encoding: NameEncoding): EncodedTarget | string {
  let encoded = target.startsWith('/') ? component(COMPONENT_ROOT, '') : '';
  let kept = target.startsWith('/') ? 1 : 0;
  let parts = 0;
  for (const part of target.split('/')) {
    if (part === '') continue;
    kept += part.length + (parts++ === 0 ? 0 : 1);
    if (part === '.') encoded += component(COMPONENT_SELF, '');
    else if (part === '..') encoded += component(COMPONENT_PARENT, '');
    else {
      const reason = whyNoName(part, encoding);
      if (reason !== null) return `in the target, ${reason}`;
      encoded += component(COMPONENT_NAME, encodeName(part, encoding));
    }
    if (encoded.length > TARGET_MAX) return `the target of ${target.length} bytes does not fit one block`;
  }
  return { encoded, shortened: kept !== target.length };
}

function component(type: number, name: string): string {
  return String.fromCharCode(type, name.length, 0, 0) + name;
}

/** The target that components stand for, or null when they are damaged. */
export function decodeTarget(encoded: string, encoding: NameEncoding): string | null {
  let target = '';
  let separator = '';
  for (let at = 0; at < encoded.length; ) {
    if (at + PATH_COMPONENT.size > encoded.length) return null;
    const type = encoded.charCodeAt(at + PATH_COMPONENT.at.ComponentType);
    const begin = at + PATH_COMPONENT.size;
    const end = begin + encoded.charCodeAt(at + PATH_COMPONENT.at.LengthofComponentIdentifier);
    if (end > encoded.length) return null;
    if (type === COMPONENT_ROOT) {
      target = '/';
      separator = '';
    } else {
      const part = componentText(type, encoded.slice(begin, end), encoding);
      if (part === null) return null;
      target += separator + part;
      separator = '/';
    }
    at = end;
  }
  return target;
}

function componentText(type: number, name: string, encoding: NameEncoding): string | null {
  if (type === COMPONENT_SELF) return '.';
  if (type === COMPONENT_PARENT) return '..';
  return type === COMPONENT_NAME ? decodeName(name, encoding) : null;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

function isEightBit(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0xff) return false;
  return true;
}

function decodeUtf8(name: string): string | null {
  try {
    return utf8.decode(Buffer.from(name, 'latin1'));
  } catch {
    return null;
  }
}
