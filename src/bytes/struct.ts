/**
 * Declares on-disk structs: a name, a size, and for each field its offset and
 * width, so that no other file holds a bare offset. Code reads and writes
 * through a DataView at `base + STRUCT.at.field`, which stays fast.
 */

/** `[name, offset, width]`, both in bytes. */
export type FieldDeclaration<Name extends string> = readonly [name: Name, offset: number, width: number];

export interface StructLayout<Name extends string> {
  /** The name in the specification or kernel header. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Field name to byte offset. */
  readonly at: Readonly<Record<Name, number>>;
  readonly fields: readonly FieldDeclaration<Name>[];
}

/**
 * Declares a struct. Throws when fields overlap, leave a gap or do not fill
 * `size`: reserved space is declared too.
 */
export function defineStruct<const Name extends string>(
  name: string,
  size: number,
  fields: readonly FieldDeclaration<Name>[],
): StructLayout<Name> {
  let end = 0;
  const at = {} as Record<Name, number>;
  for (const [field, offset, width] of fields) {
    if (offset !== end)
      throw new Error(`${name}.${field} is declared at ${offset}, the field before ends at ${end}`);
    at[field] = offset;
    end = offset + width;
  }
  if (end !== size) throw new Error(`${name} is declared as ${size} bytes, its fields fill ${end}`);
  return Object.freeze({ name, size, at: Object.freeze(at), fields });
}
