"""Make the speech that the talker learns from and is judged on: synthesisers of the system's packages, augmented.

    apt install espeak-ng flite festival festvox-us-slt-hts festvox-kallpc16k
    python -m longtalk.training.speech training/data

Every clip is spoken by one voice, then heard through some room, microphone and noise, and brought to -23 LUFS. The
voices of the test clips speak in no training clip. Everything follows from one seed.
"""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from longtalk.audio.prepare.loudness import normalize_loudness
from longtalk.metrics.opening import RATE_HZ

from .clips import decode, encode

log = logging.getLogger(__name__)

SEED = 7
TRAIN_CLIPS = 168
CLIP_S = 13.0
TEST_S = 32.0

ENGLISH = """The ferry leaves the harbour at seven, long before the market opens.
Nobody could say how the lamp had come into the attic.
Bring the small ladder, two buckets, and whatever paint is left.
Most of the apples were ripe; the pears, however, needed another week.
Did you hear the owl last night?
She counted the coins again. There were forty-one, not forty.
A narrow path runs along the river and ends at the old mill.
Well, that depends on the weather, and on who remembers the key.
Six or seven geese marched across the road in a perfect line.
Winter came early. By November the pond was frozen.
Please move the blue boxes to the second floor before lunch.
He laughed, shook his head, and began once more from the top.
The map shows a bridge, but there is no bridge.
Every evening my uncle feeds the fish and waters the tomatoes.
Why should a clock have only one hand?
Open the window a little. The kitchen smells of burnt toast.
They measured the field twice and got three different answers.
If the drum is too loud, put a blanket over it.
No. Not today, and not tomorrow either.
The youngest of the brothers built a boat out of old doors.
Far away a train whistled, and the dog lifted one ear.
Twelve people signed the letter; nine of them could read it.
You may borrow my umbrella, as long as you bring it back.
Some letters arrive late, some never arrive at all.
Our teacher drew a circle, a square, and something in between.
Under the table lay a ball of green wool.
It was quiet for a while, then everybody spoke at once.
Turn left at the fountain and follow the smell of bread.""".splitlines()
GERMAN = """Der Ofen ist kalt, aber das Brot schmeckt trotzdem.
Gestern sind wir bis zum alten Turm gelaufen.
Kannst du mir bitte die blaue Schachtel geben?
Im Garten stehen drei krumme Birnbäume und eine Bank.
Niemand wusste, wann der nächste Zug fahren würde.
Erst kam der Regen, dann der Wind, und zuletzt die Sonne.""".splitlines()
FRENCH = """Le chat dort sur la chaise près de la fenêtre.
Nous avons marché longtemps avant de trouver la rivière.
Est-ce que tu peux fermer la porte, s'il te plaît ?
Demain matin, le boulanger ouvrira plus tôt que d'habitude.
Il y avait trois bateaux rouges, et un seul marin.""".splitlines()
SPANISH = """El molino viejo está al otro lado del puente.
Ayer compramos naranjas, queso y un poco de pan.
¿Quién ha dejado la ventana abierta?
Mi abuela cuenta historias cuando llueve por la tarde.
Caminamos despacio, porque la noche era muy oscura.""".splitlines()
ITALIAN = """La nave parte domani, se il vento lo permette.
Nel cortile c'era un albero grande, pieno di limoni.
Hai visto dove ho messo le chiavi?
Ogni domenica suonano le campane della chiesa vecchia.""".splitlines()
TEXTS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH, "it": ITALIAN}

#: espeak-ng's languages; those without texts of their own read the English ones with their accent.
LANGUAGES = (
    "en-gb",
    "en-us",
    "en-gb-scotland",
    "en-gb-x-rp",
    "de",
    "fr-fr",
    "es",
    "it",
    "pt-br",
    "nl",
    "sv",
    "pl",
    "cs",
    "fi",
)
VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+f1", "+f2", "+f3", "+f4", "+croak", "+klatt", "+klatt3")


@dataclass(frozen=True)
class Voice:
    engine: str
    name: str
    words_per_minute: int = 160
    pitch: int = 50

    @property
    def texts(self) -> list[str]:
        return TEXTS.get(self.name[:2], ENGLISH) if self.engine == "espeak" else ENGLISH


#: Never heard in training.
TEST_VOICES = (
    Voice("flite", "slt"),
    Voice("espeak", "en-us+Andrea", 150, 45),
    Voice("espeak", "en-gb+m7", 165, 40),
    Voice("espeak", "de+f5", 150, 55),
)


def speak(voice: Voice, text: str) -> torch.Tensor:
    """Mono samples at 16 kHz, ``[N]``."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "speech.wav")
        if voice.engine == "espeak":
            speed, pitch = str(voice.words_per_minute), str(voice.pitch)
            command = ["espeak-ng", "-v", voice.name, "-s", speed, "-p", pitch, "-w", out, text]
        elif voice.engine == "flite":
            stretch = f"duration_stretch={165 / voice.words_per_minute:.2f}"
            command = ["flite", "-voice", voice.name, "--setf", stretch, "-t", text, "-o", out]
        else:
            (Path(folder) / "text").write_text(text, encoding="utf-8")
            command = ["text2wave", "-eval", f"(voice_{voice.name})", "-o", out, str(Path(folder) / "text")]
        subprocess.run(command, check=True, capture_output=True)
        return decode(Path(out))


def _voice(rng: random.Random) -> Voice:
    speed = rng.randint(120, 205)
    engine = rng.choices(["espeak", "flite", "festival"], [0.62, 0.26, 0.12])[0]
    if engine == "espeak":
        return Voice(engine, rng.choice(LANGUAGES) + rng.choice(VARIANTS), speed, rng.randint(15, 90))
    if engine == "flite":
        return Voice(engine, rng.choice(["kal16", "awb", "rms", "rms", "awb"]), rng.randint(130, 200))
    return Voice(engine, "kal_diphone")


def _say(voice: Voice, seconds: float, rng: random.Random) -> np.ndarray:
    """Sentences with pauses of 0.1 to 1.6 s between them, from silence on."""
    pieces, count = [np.zeros(int(RATE_HZ * rng.uniform(0.0, 0.7)), np.float32)], 0
    while count < seconds * RATE_HZ:
        spoken = speak(voice, " ".join(rng.sample(voice.texts, rng.choice((1, 1, 2))))).numpy()
        spoken = spoken * (10 ** (rng.uniform(-4, 2) / 20))
        pause = np.zeros(int(RATE_HZ * rng.choice((0.1, 0.3, 0.5, 0.8, 1.6)) * rng.uniform(0.7, 1.2)), np.float32)
        pieces += [spoken, pause]
        count += len(spoken) + len(pause)
    return np.concatenate(pieces)[: int(seconds * RATE_HZ)].astype(np.float32)


def _colour(x: np.ndarray, rng: random.Random, spread_db: float) -> np.ndarray:
    """A random smooth frequency response, as a microphone or a room has, perhaps without the highest octave."""
    spectrum = np.fft.rfft(x)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(x), 1 / RATE_HZ), 40.0) / 40.0)
    knots = np.arange(0, 9)
    gain_db = np.interp(octaves, knots, [rng.gauss(0, spread_db) for _ in knots])
    if rng.random() < 0.25:
        gain_db -= 60 * np.clip(octaves - np.log2(rng.uniform(3400, 7000) / 40.0), 0, 1)
    gain_db -= 40 * np.clip(np.log2(rng.uniform(50, 120) / 40.0) - octaves, 0, 1)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(x)).astype(np.float32)


def _reverberate(x: np.ndarray, rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Convolve with a decaying noise (a statistical room): reverberation time 0.12 to 0.6 s."""
    rt60_s, wet = rng.uniform(0.12, 0.6), rng.uniform(0.05, 0.45)
    tail = noise.standard_normal(int(RATE_HZ * rt60_s)).astype(np.float32)
    tail *= 10 ** (-3 * np.arange(len(tail)) / len(tail))
    tail /= np.sqrt((tail**2).sum())
    size = len(x) + len(tail)
    late = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(tail, size), size)[: len(x)]
    return (x + wet * late).astype(np.float32)


def augment(x: np.ndarray, rng: random.Random) -> np.ndarray:
    """As if recorded somewhere: speed, microphone, room, background noise, levels that wander."""
    noise = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.5:
        factor = rng.uniform(0.88, 1.14)
        x = np.interp(np.arange(0, len(x) - 1, factor), np.arange(len(x)), x).astype(np.float32)
    if rng.random() < 0.85:
        x = _colour(x, rng, rng.uniform(1, 5))
    if rng.random() < 0.6:
        x = _reverberate(x, rng, noise)
    if rng.random() < 0.4:  # level wanders by some dB over seconds
        knots = np.array([rng.gauss(0, 2.5) for _ in range(8)])
        x = x * 10 ** (np.interp(np.linspace(0, 7, len(x)), np.arange(8), knots) / 20)
    if rng.random() < 0.35:  # a compressor: soft
        level = np.sqrt(np.convolve(x**2, np.ones(800) / 800, "same") + 1e-8)
        x = x * (level / level.max()) ** -rng.uniform(0.1, 0.4)
    if rng.random() < 0.8:
        snr_db = rng.uniform(22, 55)
        hiss = _colour(noise.standard_normal(len(x)).astype(np.float32), rng, 6.0)
        x = x + hiss * np.sqrt((x**2).mean() / (hiss**2).mean()) * 10 ** (-snr_db / 20)
    return x.astype(np.float32)


def make_clip(voice: Voice, seconds: float, seed: int, recorded: bool) -> torch.Tensor:
    rng = random.Random(seed)
    x = _say(voice, seconds, rng)
    if recorded:
        x = augment(x, rng)
    x = x / max(1e-6, float(np.abs(x).max())) * 0.5
    loud, _ = normalize_loudness(torch.from_numpy(x), RATE_HZ)
    return loud.clamp(-1, 1)


def make_all(out: Path, clips: int) -> None:
    out.mkdir(parents=True, exist_ok=True)

    def train(index: int) -> None:
        path = out / f"train_{index:03d}.opus"
        if not path.is_file():
            rng = random.Random(SEED * 100_000 + index)
            encode(path, make_clip(_voice(rng), CLIP_S, rng.getrandbits(32), recorded=index % 6 != 0))

    def test(index: int) -> None:
        path = out / f"test_{index}_{TEST_VOICES[index].name}.opus"
        if not path.is_file():
            encode(path, make_clip(TEST_VOICES[index], TEST_S, SEED * 7919 + index, recorded=index == 3))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(test, range(len(TEST_VOICES))))
        list(pool.map(train, range(clips)))
    total_s = sum(decode(path).shape[0] for path in out.glob("train_*")) / RATE_HZ
    log.info("%d clips, %.0f minutes to learn from", clips, total_s / 60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=TRAIN_CLIPS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("libav").setLevel(logging.ERROR)
    make_all(args.out, args.clips)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
