import { t } from "../texts";
import { Dialog } from "./dialog";

export function Keys({ onClose }: { onClose: () => void }) {
  const words = t.list.keys;
  const keys: [string[], string][] = [
    [["j", "↓"], words.move],
    [["k", "↑"], words.move],
    [["Enter"], words.open],
    [["/"], words.search],
    [["n"], words.submit],
    [["Esc"], words.back],
    [["?"], words.help],
  ];
  return (
    <Dialog title={words.title} onClose={onClose}>
      <dl class="keys">
        {keys.map(([names, meaning]) => (
          <div key={names[0]}>
            <dt>
              {names.map((name) => (
                <kbd key={name}>{name}</kbd>
              ))}
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog">
        <button type="submit">{t.close}</button>
      </form>
    </Dialog>
  );
}
