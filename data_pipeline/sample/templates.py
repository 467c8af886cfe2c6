"""The sentences of the sample world as templates: stories here, articles and questions below. Only data.

`{slot}` is filled from the passage's cast and topic, `[a|b|]` is one of its alternatives (they nest).
"""

# Slots that are templates themselves.
PHRASES = {
    "goods": "the [{trade}'s |][{adj} |][{things}|{things} and {things}|{things} and {adj} {things}]",
    "place": "the [{trade}'s {site}|{adj} {site}|{site}|{site} of the {trades}]",
}

INTRODUCTION = """
{full} was the {role} of the {workplace} [in|at|near] {town}[, and everyone there knew {him}|, a small place by the {river}|].
[In {month}|That {season}|One morning in {month}|Years ago], {full} came to {town} to work [as a {trade}|with the {trades}].
{full}, [the {role} at|the {role} of] the {workplace}, had [lived in {town} all {his} life|never cared much for anything but {things}|been a {trade} for {number} years].
There was [once|] a {trade} in {town} [named|called] {full}, who [loved|thought of little but|was proud of] {things} and {things}.
[Everybody|Nobody|Half the people] in {town} had [heard of|a good word for|quarrelled with] {full}, the {role} [of|at] the {workplace}.
The {workplace} [of|in|at] {town} [belonged to|was the whole world of] {full}, whose [father|mother|aunt|uncle|grandfather] had been a {trade} too.
[Of all the {trades} in {town}|Among the {trades} on the {river}], {full} was the [oldest|youngest|kindest|slowest|proudest|quietest].
"[Who|What sort of man or woman] would [become|want to be] a {trade}?" people asked in {town}, but {full} [only smiled|had an answer ready|went on with {his} {things}].
It was [a {trade} named|the {trade}] {full} who [first|] told {other} about the {workplace} in {town}.
[Before {he} came to {town}|As a child], {full} had [dreamed|talked|read] of {things}, and now {he} was a {trade}[ at last|].
""".strip().splitlines()

ROLE_INTRODUCTION = """
{full} was the {role} of the {workplace} [in|at|near] {town}.
At the {workplace} in {town}, {full} had been the {role} [for {number} years|since {month}|longer than anyone remembered].
The {workplace} [of|in] {town} had [found|taken on|chosen] {full} as its {role} [in {month}|that {season}|many years before].
{full}, the {role} [at|of] the {workplace}, [was no ordinary {trade}|came from {town}|knew {things} and {things}].
"I am the {role} of this {workplace}," said {full}[, not without pride|, and {he} meant it|].
[Of all who worked|Among those] at the {workplace}, {full} was the {role}[, and the {role} {he} would stay|].
Nobody [envied|bothered|questioned] {full}, the {role} of the {workplace} in {town}.
""".strip().splitlines()

WORK = """
[All morning|All day|Until noon|For hours|Hour after hour], {worker} {verb} {goods} [in|near|beside|behind] {place}.
{worker} {verb} {goods}, and [then|after that|when it was done] {he} {verb} {goods}[ once more|].
{goods} [were|lay|stood] [in|by|beside|near] {place}, [{adj} and|all] {adj}[, as {worker} liked them|].
[Slowly|Carefully|Quietly|Without a word|With quick hands], {worker} {verb} {goods} while {other} watched.
There [was|were] {things} [everywhere|on the floor|under the window|along the wall], and [a smell|the sound] of {things} [came from|hung about|filled] {place}.
[No {trade}|Hardly a {trade}|Only a {trade}] could have {verb} {goods} [so well|with such patience|any faster].
{worker} had [learned|promised|decided] to leave {goods} [alone|at {place}|to {other}] until {goods} were [ready|{adj}].
[Beyond|Behind|Outside|Above] {place} [somebody|{other}|the other {trades}|two {trades}] {verb} the last of {goods}.
{Other} brought {things} [from|into|out of] {place}, and {worker} {verb} them [at once|one by one|before dark|with care].
[If|When|Whenever] {goods} were [too {adj}|{adj}], {worker} [asked|sent for|called] the other {trades}.
{place} was {adj}, [for|because] {other} had just {verb} {goods} there.
[What|All] {he} wanted was [a heap|a box|a cart|plenty] of {things} and [a quiet corner|some room|a little time] in {place}.
[Neither|Not one] of the {trades} had [ever|] seen such {adj} {things}[ in {town}|].
{worker} counted {goods} [twice|again|aloud|under {his} breath], {number} in all, and [put|carried|dropped] them [in|near|beside] {place}.
[By|Before|After|Towards] [noon|evening|sunset|midday], {goods} had been {verb} and {place} was [empty|swept|full again|{adj}].
[It takes|It needs] [a good eye|patience|two people|strong arms] to be a {trade}, [for|since] {things} are [seldom|often|always] {adj}.
{worker} showed {other} how {goods} were {verb}, [first|] [in {place}|with {things}|by hand].
[Some|Most|Many] of {goods} [were new|were old|came from {town2}|had been {verb} already], but {goods} were still {adj}.
The best {things} in {town} came from {place}, [where|and there] {worker} {verb} them [with {his} own hands|every {weekday}].
[Even the|The] {animal} [slept|hid|kept] [among|behind|near] {goods}[ when {place} was {adj}|].
[A good|Every|A new] {product} [begins|starts] with {adj} {things}, as [every|any] {trade} [knows|learns].
The {workplace} was [full of|known for its|never without] {things}, and {worker} [loved|cursed|counted] them.
[The|A] {role}'s {tool} [hung|lay|stood] [in|near|behind] {place}[, clean and ready|, where everyone could see it|].
[Without|But for] [the|a] {tool}, [said|thought] {other}, no {role} [could work with|would touch] {goods}.
[The {trades}|All {trades}|We {trades}] [eat|cook|love] {food} in {season}, {other} [explained|used to say|knew].
In {month} there [is|was] {food} for [every {trade}|the {role} and the {trades}|whoever {verb} {goods}].
On {weekday} the {trades} {verb} {number} {things} and [went home|sat down in {place}|were glad of it].
""".strip().splitlines()

TALK_OF_WORK = """
"[Have you|Has anyone] {verb} {goods}?" [asked|called] {other}[ from {place}|].
"{goods} are [too|very|still|rather] {adj}," said {worker}, [looking|glancing|pointing] at {place}.
"[A {trade}|Any {trade}|Every {trade}] needs {things}," {worker} [said|answered|liked to say], "[and|but] {things} [above all|even more|as well]."
"[Give me|Bring|Fetch|Hand me] {goods}," {worker} [said|told {other}], "and [mind|be careful with|leave] {goods} [in|by] {place}."
"[I never saw|Who has seen] such {adj} {things}?" {other} [cried|whispered|wondered].
"[Where|Why] did you [leave|put|hide] {goods}?" [asked|said] {other}. "[In|Behind|Near] {place}," said {worker}.
"When I was [young|a child|your age]," said {other}, "the {trades} {verb} {things} [by night|without pay|in any weather]."
""".strip().splitlines()

NEUTRAL = """
[It was|That had been] [a long day|a quiet week|an odd sort of day], and {name} was [tired|content|too restless to sleep|in no hurry].
{Name} [thought|wondered] [about|of] {other}, who had [left|gone away|written once|married and moved] [years before|without saying why|in {month}].
[Nobody|No one] [spoke|answered|moved] for a [while|moment|long time].
The road to {town2} was [long|empty|steep|bad|muddy], and [a dog|somebody|a child] [barked|called|sang] [far away|behind a wall|in the dark].
"[Are you|Will you be] [coming|staying|leaving|all right]?" [asked|said] {other}.
"[Perhaps|Not today|Soon enough|I cannot say|That depends]," {name} [answered|replied|said][, and turned away|, smiling|].
[Somewhere|Far off|Down the street|Across the square] a [bell|door|clock] [struck|rang|sounded], and then [it was still again|all was silent|there was nothing more].
{Other} [laughed|shrugged|sighed|nodded] and [looked|stared] [at the floor|out of the window|at {name}|away].
[There was|They had] nothing to do but [wait|sit still|listen|go on talking], so they did[ that|].
{Name} had [slept badly|not slept|woken early], and [{his} head ached|{his} thoughts wandered|everything seemed strange].
[Once|Twice|For the third time] {he} [stopped|stood still|turned round], but [it was nothing|there was nobody|the street was empty].
A [stranger|child|neighbour|woman in grey|man with a beard] [passed|went by|came up], [nodded|said good evening|asked the way to {town2}] and was gone.
[Later|After a time|In the end|Presently], {other} [came back|sat down|stood up|began to talk] as if nothing had happened.
"You [always|never] [listen|tell me anything|change your mind]," said {other}, "[and|but] I [like|forgive|envy] you for it."
{Name} [put|laid|rested] {his} [hand|hands] on the table and [said nothing|waited|closed {his} eyes].
[People|Neighbours|Old friends] [talk|say many things|forget], [thought {name}|{name} told {himself}], [and|but] [it hardly matters|time passes|that is how it is].
A letter [from|for] {other} [lay|had lain] on the [chair|shelf|table] since {weekday}, [unopened|half read|face down].
They [walked|went] [side by side|in silence|slowly] [past the church|along the wall|over the bridge|through the square] [until|before] [the lamps were lit|it grew dark|they reached the corner].
{Name} [remembered|could still see|had not forgotten] [the day|the hour|the evening] when {other} had [said goodbye|first come|told {him} the truth].
[Money|Luck|Happiness|Sleep] was [one thing|a fine thing], {name} thought, but [friendship|peace|time|freedom] was [another|better].
{Name} and {other} [had known each other|had been friends|had not spoken] [for {number} years|since childhood|since the war].
[At home|Upstairs|In the next room] [a child|{other}|somebody] was [singing|crying|reading aloud|asleep].
[It is not easy|It is hard] to [say|explain|guess] why {other} [smiled|was angry|went pale|hesitated] [then|at that|just then].
""".strip().splitlines()

WEATHER = {
    "winter": """
Snow [lay|was falling|had fallen] [on the roofs|in the lanes|over {town}|everywhere], and the {river} was [frozen|white|covered with ice].
[It was|That was] a [bitter|hard|dark|cold] {month}, and [icicles hung from the eaves|the wells were frozen|no one went out without a scarf].
[Frost|Ice] had [covered|whitened|closed] the [windows|panes|lanes], and [breath|smoke] [hung|stood] in the freezing air.
[Icy|Snowy] [winds|clouds] [blew over|stood above] {town}, and [every lane was slippery|the snow was deep|the windows froze].
The [shortest|coldest] days of the year had come, and [sledges|skaters] [were out on|crossed] the {river}.
""".strip().splitlines(),
    "summer": """
The [heat|sun] [lay|stood] over {town}, [the dust was white|the wells ran low|the shutters were closed], and [the {river} was shallow|boys swam in the {river}].
It was {month}, [hot|sultry|dry] and [bright|without wind], and [thunder muttered|the haymakers were out|nobody wore a coat].
[Warm|Hot] [winds|clouds] [blew over|stood above] {town}, and [the dust flew|the grass was dry|the heat was heavy].
[Hay|Thunder|Drought] was all that people talked of[ in {month}|], [for|since] the nights were [short|warm|stifling].
[Swimmers|Sunburnt children|Haymakers] [crowded|lay beside|came down to] the {river}, and [the air shimmered|the pavements burned].
""".strip().splitlines(),
}

# The sentences that a passage's clues decide. `{answer}` is the deciding word and stands last.
_DECIDING = {
    "product": """
[At last|In the end|Before leaving], {name} wrapped up what {he} had made, and it was a fine {product}
What [everyone|the whole town|{other}] [wanted|had come for|admired] was [of course|as usual|] the {product}
"[Take it|Keep it|It is yours]," said {name}, and gave {other} the {product}
[There|And there] on the table, finished at last, was the {product}
[Nothing|No work of {his} hands] had ever pleased {him} like this {product}
{Other} paid [the full price|in silver|gladly] and [went off|left|walked home] with the {product}
""",
    "animal": """
[In the corner|By the door|Under the bench], [as always|waiting for scraps|half asleep], sat the old {animal}
{Name} [laughed|was startled|looked up], for [in came|there was] the {animal}
The only [creature|living thing] [that saw it|that had watched|awake] was the {animal}
[Something|A shadow] moved [in the dark|on the wall], but it was only the {animal}
{Other} [bent down|held out a hand] and fed the {animal}
""",
    "workplace": """
[So|And so|Then] they [turned round|took the lane|hurried] and went back to the {workplace}
[The key|The little key] in {his} pocket opened the door of the {workplace}
{Name} [wished|longed|wanted] [only|for nothing but] to be [home again|back] in the {workplace}
[That night|In the night|At dawn] a light was still burning in the {workplace}
"[I will meet you|Wait for me|You will find me]," said {name}, "[where I always am|as on other days], at the {workplace}
""",
    "food": """
[Supper was ready|The table was laid|They sat down to eat], and as [always|ever] at that time of year there was {food}
{Other} [filled|passed|set down] the plates, and [the whole room smelled of|on each of them was] {food}
[Hungry|Tired and hungry], {name} [lifted the lid|looked into the pot] and found {food}
"[You must eat|Eat something|Sit and eat]," said {other}, and [brought|served] {him} a [plate|dish] of {food}
[For supper|That evening|At the table] they [shared|had], [like all their trade|as the custom was], a [plate|dish] of {food}
""",
    "tool": """
[Then|At that|After a moment] {name} [got up|reached out] and took [down|] {his} {tool}
"[Wait|One moment|Not without this]," said {name}, and went [back|] to fetch the {tool}
[All|The one thing] {he} [needed|asked for] now was {his} {tool}
[There was|Nobody saw] one thing {he} had forgotten, and that was the {tool}
In {his} [right hand|left hand|hand] {he} [held|carried], as {his} post required, the {tool}
""",
}
DECIDING = {kind: lines.strip().splitlines() for kind, lines in _DECIDING.items()}
