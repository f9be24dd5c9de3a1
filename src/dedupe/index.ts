/** Splits tars into what other files hold already and what is new, and puts them together again. Opens no file. */
export { BlockMatcher, FIRST_BASE, type NewData, OWN_DATA } from './block-matcher.ts';
export { type FileRange, indexFiles } from './index-tar.ts';
export { OriginList, type OriginNumbers, Origins } from './origins.ts';
export {
  decodeRecipe,
  eachRun,
  encodeRecipe,
  findRun,
  RECIPE_BLOCK,
  type Recipe,
  type RecipeRuns,
  type RecipeSource,
  ZEROS,
} from './recipe.ts';
export { recipeTar } from './recipe-source.ts';
export { appendRange, isWorthwhile, settleRuns } from './settle.ts';
export { UnitTable } from './unit-table.ts';
export { decodeUnits } from './units.ts';
