/**
 * `veneer/hooks`: what a site plugs into unpack and repack: programs from hooks.toml, or callbacks.
 *
 * docs/hooks.md tells what each event means and may answer.
 */
export { findHooksFile, type MakeDriver, type ReadHooksOptions, readHooksFile } from './config.ts';
export { type DeltaPath, readDeltas } from './deltas.ts';
export { type ExecSettings, execHook } from './exec.ts';
export {
  callbackHook,
  type Hook,
  type HookCall,
  type HookCallbacks,
  type HookPolicy,
  type OnError,
  type Verify,
} from './hook.ts';
export * from './protocol.ts';
export { type HookAnswered, type HookReport, HookSession, type SessionOptions } from './session.ts';
