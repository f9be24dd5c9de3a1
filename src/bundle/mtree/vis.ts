/** Names in mtree(5) files: vis(3) in its octal form, whatever could mean something to a shell or a reader included. */

/** Anything but graphical ASCII, and the characters of globs and comments. */
const HIDDEN = /[^!-~]|[*?[#\\]/g;

/** A byte string as an mtree file has it. */
export function encodeVis(name: string): string {
  return name.replace(HIDDEN, (char) =>
    char === '\\' ? '\\\\' : `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
}

const ESCAPE = /\\(?:([0-7]{1,3})|([abfnrstv\\])|M-([\s\S])|M\^([\s\S])|\^([\s\S]))/g;
const C_STYLE: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  s: ' ',
  t: '\t',
  v: '\v',
  '\\': '\\',
};

/** Back to a byte string; takes the other forms of vis(3) too. */
export function decodeVis(text: string): string {
  const control = (char: string): number => (char === '?' ? 0x7f : char.charCodeAt(0) & 0x1f);
  return text.replace(
    ESCAPE,
    (_, octal?: string, c?: string, meta?: string, metaControl?: string, ctrl?: string) => {
      if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 0xff);
      if (c !== undefined) return C_STYLE[c]!;
      if (meta !== undefined) return String.fromCharCode(meta.charCodeAt(0) | 0x80);
      if (metaControl !== undefined) return String.fromCharCode(control(metaControl) | 0x80);
      return String.fromCharCode(control(ctrl!));
    },
  );
}
