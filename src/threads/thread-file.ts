/** Where the code of a thread stands: beside the module that starts it, in the same form. */

/**
 * `self` is that module's `import.meta.url`, `name` the thread's module without its ending: .ts in the sources, .js in
 * the library, .cjs where the command line is one file.
 */
export function threadFile(self: string, name: string): URL {
  return new URL(`./${name}${self.slice(self.lastIndexOf('.'))}`, self);
}
