/** Image configs with all that they say about running a container (OCI image spec, config.md). */
import * as v from 'valibot';
import type { JsonObject } from '../oci/encode-json.ts';
import { MAX_CONFIG_BYTES, parseDocument } from '../oci/json.ts';

const text = v.nullish(v.string());
const texts = v.nullish(v.array(v.string()));
/** A set as Go writes it: names of empty objects. */
const names = v.nullish(v.record(v.string(), v.unknown()));

const historySchema = v.looseObject({
  created: text,
  created_by: text,
  author: text,
  comment: text,
  empty_layer: v.nullish(v.boolean()),
});

const documentSchema = v.looseObject({
  created: text,
  author: text,
  architecture: text,
  os: text,
  'os.version': text,
  'os.features': texts,
  variant: text,
  config: v.nullish(
    v.looseObject({
      User: text,
      ExposedPorts: names,
      Env: texts,
      Entrypoint: texts,
      Cmd: texts,
      Volumes: names,
      WorkingDir: text,
      Labels: v.nullish(v.record(v.string(), v.string())),
      StopSignal: text,
      ArgsEscaped: v.nullish(v.boolean()),
    }),
  ),
  history: v.nullish(v.array(historySchema)),
});

export type ConfigDocument = v.InferOutput<typeof documentSchema>;
export type RunConfig = NonNullable<ConfigDocument['config']>;
export type HistoryEntry = v.InferOutput<typeof historySchema>;

/** Parses a config; `what` names it in messages. Throws `oci/invalid` or `oci/limit`. */
export function checkConfigShape(bytes: Buffer, what: string): ConfigDocument {
  return parseDocument(documentSchema, bytes, MAX_CONFIG_BYTES, what);
}

/** The names of a set, sorted by their bytes. */
export function namesOf(set: JsonObject | Record<string, unknown> | null | undefined): string[] {
  return Object.keys(set ?? {}).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}
