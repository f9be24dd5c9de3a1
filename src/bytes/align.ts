/** Rounds `value` up to a multiple of `unit`; both safe integers, any unit > 0. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + unit - rest;
}
