# SPDX-License-Identifier: Apache-2.0
"""Sources to begin with, in the languages of the project's corpora."""

_EXAMPLES = {
    "en": (
        "My sister has lived in Berlin for three years. She works in a hospital and wants to become a doctor.",
        "He told me that he would come tomorrow, but I don't believe him.",
        "The new sensor was added. You can now choose the room in which it should be used.",
    ),
    "de": (
        "Ein Mann in einem roten Hemd fährt mit dem Fahrrad die Straße entlang, während zwei Hunde hinter ihm laufen.",
        "Der neue Sensor wurde hinzugefügt. Sie können jetzt den Raum auswählen, in dem er verwendet werden soll.",
    ),
    "fr": (
        "Un homme en chemise rouge descend la rue à vélo pendant que deux chiens courent derrière lui.",
        "Le nouveau capteur a été ajouté. Vous pouvez maintenant choisir la pièce où il sera utilisé.",
    ),
    "it": (
        "Un uomo con una camicia rossa va in bicicletta lungo la strada mentre due cani corrono dietro di lui.",
        "Il nuovo sensore è stato aggiunto. Ora puoi scegliere la stanza in cui usarlo.",
    ),
    "nl": (
        "Een man in een rood shirt fietst door de straat terwijl twee honden achter hem aan rennen.",
        "De nieuwe sensor is toegevoegd. Je kunt nu de kamer kiezen waarin hij wordt gebruikt.",
    ),
    "ro": (
        "Un bărbat cu o cămașă roșie merge cu bicicleta pe stradă în timp ce doi câini aleargă în urma lui.",
        "Noul senzor a fost adăugat. Acum poți alege camera în care va fi folosit.",
    ),
}
_NAMES = {"english": "en", "german": "de", "french": "fr", "italian": "it", "dutch": "nl", "romanian": "ro"}


def examples_of(language: str) -> tuple[str, ...]:
    """Return sentences in a language, given by a name or a code such as `"en"`, `"en-GB"` or `"English"`; none for an
    unknown one.

    Example:

    ```python
    >>> from transformers_simul.live_page.examples import examples_of
    >>> examples_of("German")[1].split()[:3], examples_of("tlh")
    (['Der', 'neue', 'Sensor'], ())

    ```
    """
    name = language.strip().lower()
    return _EXAMPLES.get(_NAMES.get(name, name.replace("_", "-").split("-")[0]), ())


__all__ = ["examples_of"]
