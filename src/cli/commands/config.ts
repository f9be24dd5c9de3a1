/** `veneer config` */
import { asText, defineCommand, type NoFlags } from '../command.ts';
import { usageError } from '../parse.ts';
import { withStore } from '../with-store.ts';

const SETTINGS = ['dedupe'] as const;

export default defineCommand<NoFlags, [setting?: string, value?: string]>({
  name: 'config',
  brief: 'Show or change what the store is set to',
  usage: ['config [SETTING [on|off]]'],
  description: `dedupe    Of each layer that is pulled, keep only the blocks that no other layer has. It is mounted as it is, and
          "veneer export" gives its exact tar back. Default: off; layers that come as a delta are kept so anyway.
          Layers that are there already stay as they are.`,
  examples: [
    ['config', 'all settings'],
    ['config dedupe on', 'share data between layers from now on'],
  ],
  parameters: {
    positional: {
      kind: 'tuple',
      parameters: [
        { brief: 'What to show or change', placeholder: 'SETTING', parse: asText, optional: true },
        { brief: 'on or off', placeholder: 'VALUE', parse: asText, optional: true },
      ],
    },
  },
  completes: ['none'],
  async run(context, flags, setting, value) {
    const { changeSettings, readSettings } = await import('../../store/settings.ts');
    const name = SETTINGS.find((one) => one === setting);
    if (setting !== undefined && name === undefined)
      throw usageError('config', `no such setting: ${setting} (there is ${SETTINGS.join(', ')})`);
    if (value !== undefined && value !== 'on' && value !== 'off')
      throw usageError('config', `${setting} is on or off, not ${value}`);
    return withStore(context, flags, async (store) => {
      const { version: _, ...settings } =
        name === undefined || value === undefined
          ? readSettings(store)
          : await changeSettings(store, { [name]: value === 'on' });
      const shown = name === undefined ? SETTINGS : [name];
      context.out.result(settings, () => shown.map((one) => `${one} ${settings[one] ? 'on' : 'off'}`));
      return undefined;
    });
  },
});
