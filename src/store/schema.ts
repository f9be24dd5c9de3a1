/**
 * The tables of store.db and how they came to be.
 *
 * The database holds nothing that the files do not say: it answers what would need a look into every file
 * (prefixes of digests, who uses a layer). `user_version` is the number of migrations that were applied.
 */

/** Each entry brings the schema one version further; never change one that was released, add the next. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE layers (
    diff_id      TEXT PRIMARY KEY,
    tar_size     INTEGER NOT NULL,
    entries      INTEGER NOT NULL,
    image_digest TEXT NOT NULL,
    image_size   INTEGER NOT NULL,
    record       TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- Blobs whose content was verified to be this layer.
  CREATE TABLE layer_blobs (
    blob_digest TEXT NOT NULL,
    diff_id     TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    PRIMARY KEY (blob_digest, diff_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX layer_blobs_by_layer ON layer_blobs (diff_id);

  CREATE TABLE chains (
    chain_id   TEXT PRIMARY KEY,
    image_size INTEGER NOT NULL,
    record     TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE images (
    name            TEXT PRIMARY KEY,
    -- Base name of the record's file and the stamp (inode, time, size) under which it was read.
    file            TEXT NOT NULL UNIQUE,
    stamp           TEXT NOT NULL,
    manifest_digest TEXT NOT NULL,
    config_digest   TEXT NOT NULL,
    chain_id        TEXT NOT NULL,
    record          TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX images_by_manifest ON images (manifest_digest);
  CREATE INDEX images_by_config ON images (config_digest);

  CREATE TABLE image_layers (
    name        TEXT NOT NULL REFERENCES images (name) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    diff_id     TEXT NOT NULL,
    blob_digest TEXT NOT NULL,
    PRIMARY KEY (name, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_layers_by_layer ON image_layers (diff_id);
  `,
  // Nobody asks it: which layer a blob is, the layers' own records tell (docs/decisions/0093).
  'DROP TABLE layer_blobs;',
];
