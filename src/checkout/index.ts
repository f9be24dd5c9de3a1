/** Images in directories, without mounts and without root. */
export { type CheckoutOptions, type CheckoutReport, checkOut } from './checkout.ts';
export type { LocalChange } from './local-changes.ts';
export { type CheckoutSweep, sweepCheckouts } from './sweep.ts';
