import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { allCommands, allFamilies, COMMANDS } from './commands.ts';
import { commandHelp, familyHelp, rootHelp } from './help.ts';

describe('help', () => {
  it('lists every command', () => {
    const help = rootHelp();
    for (const [name, { brief }] of Object.entries(COMMANDS)) {
      assert.match(help, new RegExp(`^  ${name} +${brief.replace(/[.?()]/g, '\\$&')}$`, 'm'));
    }
  });

  it('lists the commands of every family', () => {
    const families = allFamilies();
    assert.ok(families.some(([name]) => name === 'image'));
    for (const [name, family] of families) {
      const help = familyHelp(name, family);
      for (const [word, { brief }] of Object.entries(family.commands)) {
        const row = new RegExp(`^  ${word} +${brief.replace(/[.?()]/g, '\\$&')}$`, 'm');
        assert.match(help, row);
      }
    }
  });

  for (const [name, entry] of allCommands()) {
    it(`${name}: usage, flags, and examples that parse`, async () => {
      const command = (await entry.load()).default;
      assert.equal(command.name, name);
      const help = commandHelp(command);
      for (const usage of command.usage) assert.ok(usage.startsWith(name), usage);
      for (const flag of ['--json', '--quiet', '--help'])
        assert.ok(help.includes(flag), `${flag} is not told`);
      assert.ok(command.examples.length > 0, 'no example');
      assert.ok(help.endsWith('\n') && !help.endsWith('\n\n'));
      for (const line of help.split('\n')) assert.equal(line, line.trimEnd());
      assert.match(help, /^Examples:\n( {2}# .*\n {2}(veneer |.*\| veneer ).*\n)+$/m);
      for (const [line] of command.examples) {
        const own = line.split('| veneer ').at(-1)!;
        const words = own
          .split(/ (?:[|<>]|&&)/)[0]!
          .trim()
          .split(/ +/);
        const typed = words.join(' ');
        const other = allCommands().find(([full]) => typed === full || typed.startsWith(`${full} `));
        assert.ok(other !== undefined, line);
        await (await other[1].load()).default.read(words.slice(other[0].split(' ').length));
      }
    });

    it(`${name}: the table of commands says the same brief`, async () => {
      // The command's own may say more: mount also lists.
      const command = (await entry.load()).default;
      assert.ok(command.brief.startsWith(entry.brief), `${command.brief} / ${entry.brief}`);
    });
  }
});
