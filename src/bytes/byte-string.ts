/** Byte strings: JS strings in which one char is one byte (latin1). They sort and compare as bytes. */

/** Writes `text` into `bytes` at `at`; returns the position behind it. Short strings are faster by hand than through `Buffer.write`. */
export function putByteString(bytes: Buffer, at: number, text: string): number {
  const length = text.length;
  if (length > 24) {
    bytes.write(text, at, length, 'latin1');
  } else {
    for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i);
  }
  return at + length;
}

/** For people: decodes as UTF-8 where it is valid; other bytes, control characters and backslashes become `\xNN`. */
export function displayByteString(text: string): string {
  const bytes = Buffer.from(text, 'latin1');
  const hex = (char: string): string =>
    Array.from(Buffer.from(char), (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  try {
    const decoded = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return decoded.replace(/[\u0000-\u001f\u007f-\u009f\\\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, hex);
  } catch {
    return text.replace(
      /[^\x20-\x5b\x5d-\x7e]/g,
      (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
    );
  }
}
