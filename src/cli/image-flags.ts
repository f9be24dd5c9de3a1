/** The flag of all commands that read inside an image. */
import { asText } from './command.ts';

export type ImageFlags = {
  readonly device?: readonly string[];
};

export const IMAGE_FLAGS = {
  device: {
    kind: 'parsed',
    parse: asText,
    variadic: true,
    optional: true,
    placeholder: 'FILE',
    brief: 'With an image file: a file its data stands in, in the order of its device table',
  },
} as const;

/** Paragraph for the help texts. */
export const IMAGE_HELP = `IMAGE is a name in the store, a digest or its unambiguous beginning, or an EROFS image file.
The path begins at the first ":/", so names with colons need no quoting: localhost:5000/app:1.2:/etc/passwd.`;
