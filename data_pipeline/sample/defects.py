"""What the sample corpus plants for cleaning to find: foreign, short, garbled, duplicate and contaminated documents."""

import random

FOREIGN_SENTENCES = {
    "German": """
Am frühen Morgen ging der alte Müller durch das stille Dorf zum Fluss hinunter.
Die Kinder spielten den ganzen Nachmittag im Garten hinter dem großen Haus.
Niemand wusste genau, woher der Fremde gekommen war und was er suchte.
Im Winter liegt der Schnee so hoch, dass man die Zäune nicht mehr sehen kann.
Meine Großmutter erzählte uns jeden Abend eine Geschichte aus ihrer Jugend.
Der Zug fährt um sieben Uhr ab und kommt erst spät in der Nacht an.
Wir haben lange darüber gesprochen, aber keine gute Lösung gefunden.
Auf dem Markt verkaufte eine Bäuerin frisches Brot, Eier und Käse.
Das Wetter war schlecht, und trotzdem gingen sie gemeinsam über die Berge.
Er öffnete das Fenster und hörte die Glocken der kleinen Kirche läuten.
Die Straße führt an alten Mühlen vorbei bis in die nächste Stadt.
Sie schrieb ihrem Bruder einen Brief, doch er hat niemals geantwortet.
Vor vielen Jahren stand hier eine Brücke, die bei einem Hochwasser zerstört wurde.
Am Sonntag kommen alle Nachbarn zusammen, um zu essen und zu singen.
Der Lehrer war streng, aber gerecht, und seine Schüler mochten ihn sehr.
Zwischen den Feldern liegt ein See, in dem man im Sommer schwimmen kann.
""",
    "French": """
Le vieux meunier descendait chaque matin vers la rivière pour regarder l'eau couler.
Les enfants jouaient dans le jardin pendant que leur mère préparait le déjeuner.
Personne ne savait d'où venait cet étranger ni ce qu'il cherchait dans le village.
En hiver, la neige couvre les toits et les chemins deviennent difficiles.
Ma grand-mère nous racontait tous les soirs une histoire de sa jeunesse.
Le train part à sept heures et n'arrive que très tard dans la nuit.
Nous en avons parlé longtemps sans jamais trouver une bonne solution.
Au marché, une paysanne vendait du pain frais, des œufs et du fromage.
Malgré le mauvais temps, ils ont traversé ensemble la montagne.
Il ouvrit la fenêtre et entendit sonner les cloches de la petite église.
La route longe les anciens moulins avant d'arriver à la ville voisine.
Elle écrivit une lettre à son frère, mais il ne répondit jamais.
Il y a bien des années, un pont se trouvait ici, que la crue a emporté.
Le dimanche, tous les voisins se réunissent pour manger et pour chanter.
Le maître était sévère mais juste, et ses élèves l'aimaient beaucoup.
Entre les champs se trouve un lac où l'on peut nager en été.
""",
    "Spanish": """
El viejo molinero bajaba cada mañana hacia el río para mirar el agua.
Los niños jugaban en el jardín mientras su madre preparaba la comida.
Nadie sabía de dónde venía aquel forastero ni qué buscaba en el pueblo.
En invierno la nieve cubre los tejados y los caminos se vuelven difíciles.
Mi abuela nos contaba todas las noches una historia de su juventud.
El tren sale a las siete y no llega hasta muy tarde por la noche.
Hablamos mucho tiempo de ello, pero no encontramos ninguna solución buena.
En el mercado una campesina vendía pan fresco, huevos y queso.
A pesar del mal tiempo, cruzaron juntos la montaña.
Abrió la ventana y oyó sonar las campanas de la pequeña iglesia.
La carretera pasa junto a los antiguos molinos antes de llegar a la ciudad vecina.
Ella escribió una carta a su hermano, pero él nunca contestó.
Hace muchos años había aquí un puente que se llevó la crecida.
Los domingos todos los vecinos se reúnen para comer y para cantar.
El maestro era severo pero justo, y sus alumnos lo querían mucho.
Entre los campos hay un lago donde se puede nadar en verano.
""",
    "Italian": """
Il vecchio mugnaio scendeva ogni mattina verso il fiume per guardare l'acqua.
I bambini giocavano nel giardino mentre la madre preparava il pranzo.
Nessuno sapeva da dove venisse quello straniero né che cosa cercasse nel paese.
D'inverno la neve copre i tetti e le strade diventano difficili.
Mia nonna ci raccontava ogni sera una storia della sua giovinezza.
Il treno parte alle sette e arriva soltanto a notte fonda.
Ne abbiamo parlato a lungo, ma non abbiamo trovato una buona soluzione.
Al mercato una contadina vendeva pane fresco, uova e formaggio.
Nonostante il brutto tempo, attraversarono insieme la montagna.
Aprì la finestra e sentì suonare le campane della piccola chiesa.
La strada passa accanto ai vecchi mulini prima di arrivare alla città vicina.
Lei scrisse una lettera al fratello, ma lui non rispose mai.
Molti anni fa qui c'era un ponte che la piena ha portato via.
La domenica tutti i vicini si riuniscono per mangiare e per cantare.
Il maestro era severo ma giusto, e i suoi scolari gli volevano bene.
Tra i campi si trova un lago dove d'estate si può nuotare.
""",
    "Russian": """
Старый мельник каждое утро спускался к реке и смотрел на воду.
Дети весь день играли в саду за большим домом.
Никто не знал, откуда пришёл этот человек и что он искал в деревне.
Зимой снег лежит так высоко, что заборов уже не видно.
Бабушка каждый вечер рассказывала нам истории о своей молодости.
Поезд отправляется в семь часов и приходит только поздно ночью.
Мы долго говорили об этом, но так и не нашли хорошего решения.
На рынке крестьянка продавала свежий хлеб, яйца и сыр.
Несмотря на плохую погоду, они вместе перешли через горы.
Он открыл окно и услышал звон колоколов маленькой церкви.
Дорога идёт мимо старых мельниц до соседнего города.
Она написала брату письмо, но он никогда не ответил.
Много лет назад здесь стоял мост, который унесло наводнением.
По воскресеньям все соседи собираются вместе, чтобы поесть и попеть.
Учитель был строгим, но справедливым, и ученики его любили.
Между полями лежит озеро, в котором летом можно купаться.
""",
}
_FOREIGN = {language: text.strip().splitlines() for language, text in FOREIGN_SENTENCES.items()}
_ACCENTED = {"e": "é", "a": "ä", "o": "ö", "u": "ü", "c": "ç"}  # all defined in Windows-1252
NEAR_DUPLICATE_LEAST = 0.83
NEAR_DUPLICATE_MOST = 0.98


def character_shingles(text: str, size: int = 5) -> set[str]:
    """The set of character n-grams of a text."""
    return {text[start : start + size] for start in range(len(text) - size + 1)}


def jaccard(first: str, second: str) -> float:
    """Jaccard similarity of two texts in character 5-grams."""
    one, two = character_shingles(first), character_shingles(second)
    return len(one & two) / len(one | two)


def foreign(draw: random.Random) -> tuple[str, str]:
    """A document of another language, long enough that its length is no reason to drop it, and the language."""
    language = draw.choice(sorted(_FOREIGN))
    sentences = list(_FOREIGN[language])
    draw.shuffle(sentences)
    return " ".join(sentences[: draw.randint(13, 16)]), language


def shortened(draw: random.Random, text: str) -> str:
    """The first sentences of a text, well under 128 tokens."""
    words = text.split()
    return " ".join(words[: draw.randint(20, 70)])


def accented(draw: random.Random, text: str) -> str:
    """The text with some words spelled with accents and its dashes long, so that it is more than ASCII."""
    words = text.replace(", and ", " — and ").split(" ")
    for place in draw.sample(range(len(words)), len(words) // 12):
        words[place] = "".join(_ACCENTED.get(letter, letter) for letter in words[place])
    return " ".join(words)


def garbled(text: str) -> str:
    """Mojibake: UTF-8 read as Windows-1252."""
    return text.encode("utf-8").decode("cp1252")


def edited(draw: random.Random, text: str) -> str:
    """A near-duplicate: a few words changed or dropped, similarity clearly above 0.8."""
    while True:
        words = text.split(" ")
        for _ in range(max(2, len(words) // 60)):
            place = draw.randrange(1, len(words) - 1)
            words[place] = draw.choice(("really", "somehow", "", "quite", "again"))
        result = " ".join(word for word in words if word)
        if NEAR_DUPLICATE_LEAST < jaccard(text, result) < NEAR_DUPLICATE_MOST:
            return result


def embedded(draw: random.Random, text: str, passage: str) -> str:
    """A document with a benchmark passage as one of its paragraphs."""
    paragraphs = text.split("\n\n")
    paragraphs.insert(draw.randint(0, len(paragraphs)), passage)
    return "\n\n".join(paragraphs)
