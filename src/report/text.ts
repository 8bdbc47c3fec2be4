// Any text as text of markup: whatever it holds, it is shown, and shown as what it is.

/** Text for the content and the attributes of HTML and XML, with nothing in it that cannot be seen. */
export function markup(text: string): string {
  return visible(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Control characters as their pictures; invisible ones, and those that change the direction of reading, by their numbers. */
export function visible(text: string): string {
  return text
    .replace(/\r\n/g, '\n')
    .replace(/\p{Cc}/gu, (character) => {
      const code = character.charCodeAt(0);
      if (character === '\n' || character === '\t') return character;
      return code < 32 ? String.fromCharCode(0x2400 + code) : code === 127 ? '\u2421' : named(character);
    })
    .replace(/[\p{Cf}\p{Cs}\u2028\u2029]/gu, named);
}

function named(character: string): string {
  return `⟨U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}⟩`;
}
