// The process in which a chat template is parsed and rendered. It ends when it has answered, when its parent is gone, and,
// whatever the template does, when its time is over.

import vm from 'node:vm';
import { noEnd, type RenderAnswer, type RenderRequest } from './chat-template.js';
import { parseTemplate } from './jinja.js';

// A terminal sends these to all processes at once; they are the parent's to hear.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
process.on('disconnect', () => process.exit(1));
process.once('message', (request: string) => {
  process.send!(answer(JSON.parse(request) as RenderRequest), () => process.exit(0));
});
process.send!('ready');

function answer({ source, chats, timeLimit }: RenderRequest): RenderAnswer {
  let chat: number | null = null;
  const texts: string[] = [];
  const render = () => {
    const template = parseTemplate(source);
    for (const [i, variables] of chats.entries()) {
      chat = i;
      texts.push(template(variables));
    }
  };
  try {
    // The parent ends this process at the limit, too; should it be gone by then, this does.
    vm.runInNewContext('render()', { render }, { timeout: timeLimit });
    return { texts };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return { error: noEnd(timeLimit), chat };
    return { error: message, chat };
  }
}
