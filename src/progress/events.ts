/**
 * Progress events. Core functions take an optional `onProgress` callback and
 * never print; the command line renders these for a terminal, a log or --json.
 */

/** What is being worked on; `total` and `done` are bytes unless `unit` says otherwise; `total` is 0 when it is not known. */
export type ProgressEvent =
  | {
      readonly type: 'start';
      readonly id: string;
      readonly what: string;
      readonly total: number;
      readonly unit?: 'file';
    }
  | { readonly type: 'advance'; readonly id: string; readonly done: number }
  | { readonly type: 'end'; readonly id: string; readonly outcome: 'done' | 'exists' | 'failed' }
  | { readonly type: 'note'; readonly id: string; readonly message: string };

export type OnProgress = (event: ProgressEvent) => void;
