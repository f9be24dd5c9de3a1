/** An image's documents for people, in umoci's form. */
import { namesOf, type RunConfig } from '../../bundle/config-document.ts';
import type { ImageStat } from '../../bundle/stat-image.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { shortTime } from '../../oci/encode-json.ts';

export function statLines(image: ImageStat): string[] {
  const { manifest, document, path, history } = image;
  const annotations = mapLines('Annotations', manifest.annotations);
  return [
    '== MANIFEST ==',
    'Schema Version: 2',
    row('Media Type', manifest.mediaType),
    'Config:',
    ...indent(descriptorLines(manifest.config)),
    ...(manifest.layers.length === 0 ? [] : ['Layers:']),
    ...manifest.layers.flatMap((layer) => indent(descriptorLines(layer))),
    ...annotations,
    ...descriptorLines(path.manifest, path.steps.at(-1)!.raw.platform as PlatformNames | undefined),
    '',
    '== CONFIG ==',
    ...(document.created ? [row('Created', shortTime(document.created))] : []),
    row('Author', document.author ?? ''),
    ...platformLines(document, [
      ...given('OS Version', document['os.version']),
      ...(document['os.features']?.length ? [row('OS Features', ...document['os.features'])] : []),
    ]),
    'Image Config:',
    ...indent(runConfigLines(document.config ?? {})),
    ...descriptorLines(manifest.config),
    '',
    '== HISTORY ==',
    ...historyLines(history),
  ];
}

const indent = (lines: readonly string[]): string[] => lines.map((line) => `\t${line}`);

interface PlatformNames {
  readonly os?: string | null | undefined;
  readonly architecture?: string | null | undefined;
  readonly variant?: string | null | undefined;
}

function platformLines({ os, architecture, variant }: PlatformNames, more: readonly string[] = []): string[] {
  const suffix = variant ? ` (${quote(variant, false)})` : '';
  return [
    'Platform:',
    ...indent([row('OS', os ?? ''), ...more, row('Architecture', architecture ?? '') + suffix]),
  ];
}

const given = (name: string, value: string | null | undefined): string[] => (value ? [row(name, value)] : []);

/** `platform` is what index.json says; umoci does not indent it. */
function descriptorLines(descriptor: Descriptor, platform?: PlatformNames): string[] {
  const { mediaType, digest, size, annotations } = descriptor;
  return [
    'Descriptor:',
    ...indent([row('Media Type', mediaType), row('Digest', digest), row('Size', humanSize(size))]),
    ...(platform ? platformLines(platform) : []),
    ...indent(mapLines('Annotations', annotations)),
  ];
}

function runConfigLines(config: RunConfig): string[] {
  const escaped = config.ArgsEscaped ? ' (escaped)' : '';
  return [
    row('User', config.User ?? ''),
    ...(config.Entrypoint?.length ? listLines(`Entrypoint${escaped}`, config.Entrypoint) : []),
    ...listLines(`Command${escaped}`, config.Cmd ?? []),
    ...given('Working Directory', config.WorkingDir),
    ...(config.Env?.length ? listLines('Environment', config.Env) : []),
    ...given('Stop Signal', config.StopSignal),
    ...setLines('Exposed Ports', config.ExposedPorts),
    ...setLines('Volumes', config.Volumes),
    ...mapLines('Labels', config.Labels ?? {}),
  ];
}

function listLines(name: string, values: readonly string[]): string[] {
  if (values.length === 0) return [`${name}: (empty)`];
  return [`${name}:`, ...indent(values.map((value) => quote(value)))];
}

function setLines(name: string, set: Record<string, unknown> | null | undefined): string[] {
  const names = namesOf(set);
  return names.length === 0 ? [] : [row(name, ...names)];
}

function mapLines(name: string, map: Readonly<Record<string, string>>): string[] {
  const keys = namesOf(map);
  return keys.length === 0 ? [] : [`${name}:`, ...indent(keys.map((key) => row(quote(key), map[key]!)))];
}

function row(name: string, ...values: readonly string[]): string {
  const shown = values.map((value) => (value.includes(',') ? quoted(value) : quote(value)));
  return `${name}: ${shown.join(', ')}`;
}

/** Columns of the widest cell and a blank; the last one is as long as it is. */
function historyLines(history: ImageStat['history']): string[] {
  const rows = [
    ['LAYER', 'CREATED', 'CREATED BY', 'SIZE', 'COMMENT'],
    ...history.map(({ entry, layer }) => [
      layer === null ? '<none>' : layer.digest,
      quote(shortTime(entry.created ?? ''), false),
      quote(entry.created_by ?? '', false),
      layer === null ? '<none>' : humanSize(layer.size),
      quote(entry.comment ?? '', false),
    ]),
  ];
  const widths = [0, 1, 2, 3].map(
    (column) => Math.max(...rows.map((cells) => [...cells[column]!].length)) + 1,
  );
  return rows.map((cells) =>
    cells
      .map((cell, column) => cell + ' '.repeat(column === 4 ? 0 : widths[column]! - [...cell].length))
      .join(''),
  );
}

/** Four digits, powers of 1000. */
function humanSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let size = bytes;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${Number(size.toPrecision(4))}${units[unit]}`;
}

/** In quotes when it holds what a terminal would not show; with `exact` also when it is empty or has blanks. */
function quote(text: string, exact = true): string {
  const inQuotes = quoted(text);
  const plain = inQuotes === `"${text}"` && !(exact && (text === '' || /\s/.test(text)));
  return plain ? text : inQuotes;
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

/** As Go's strconv.Quote. */
function quoted(text: string): string {
  const inner = text.replace(/["\\]|[\p{C}\p{Z}]/gu, (char) => {
    if (char === ' ') return char;
    const code = char.codePointAt(0)!;
    const hex = (prefix: string, width: number): string =>
      `\\${prefix}${code.toString(16).padStart(width, '0')}`;
    return ESCAPES[char] ?? (code < 0x80 ? hex('x', 2) : code < 0x10000 ? hex('u', 4) : hex('U', 8));
  });
  return `"${inner}"`;
}
