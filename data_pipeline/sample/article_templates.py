"""Templates of the sample world's articles and handbooks, in plain spelling, and of its RACE questions. Only data."""

_LEADS = {
    "{town} {Workplace}": """
The {town} {workplace} is [a|an old|a well-known|the largest] {workplace} [in|near|{decimal} kilometres {compass} of] {town}, [on|beside|not far from] the {river}.
{town} {Workplace} is one of the [oldest|smallest|best-kept] [buildings|sites] of the {field} trade[ on the {river}|], and [was founded|was opened|has stood there since its opening] in {year}.
""",
    "{Field} in {town}": """
{Field} in {town} [has a history of|goes back] {number} [decades|generations], and [it remains|it was long] the [main|best paid|most respected] trade of the town.
The {field} of {town}, [a market town|a small town|a parish] on the {river}, [employed|gave work to|occupied] {thousands} people in {year}.
""",
    "{full}": """
{full} ([born|baptised] in {town} in {year}) was a {trade} [and a collector of {things}|and writer on {things}|who worked at the {workplace} of {town2}|].
{full} was [the best known|the last|the most gifted] {trade} of {town}, [remembered for|known above all for] {his} {adj} {things}.
""",
    "{town}": """
{town} is a [town|village|market town|parish] {decimal} [miles|kilometres] {compass} of {town2}, [known for|with a long tradition of] {field}.
{town} is a [town|village|settlement] of {thousands} inhabitants on the {river}, [and lives mostly by|whose main trade is] {field}.
""",
}
LEADS = {title: lines.strip().splitlines() for title, lines in _LEADS.items()}

_SECTIONS = {
    "History": """
[The first|A first|An early] {workplace} was [built|recorded|mentioned] [here|in {town}] in {year}, when {number} {trades} [settled|worked|were counted] [beside|along|near] the {river}.
In {year} a fire [destroyed|damaged] {place} and [most|{thousands}] of {goods}, but the {trades} [rebuilt it|began again] [within {number} months|in the following {month}].
[During|Before|After] the war [the number of {trades} fell|trade in {things} declined|{place} stood empty] from {thousands} to {number}.
{full} [bought|inherited|enlarged] the {workplace} in {year} and [replaced|sold] {goods} [of former days|for {thousands} crowns].
[Records|Parish books|Letters] from {year} [mention|describe|list] {adj} {things}, [a {site}|{place}] and {number} {trades}.
[Until|Since|From] {year} the {trades} [had their own guild|paid a tax on {things}|held a fair every {month}], [which|and it] [ended|was renewed] in {year}.
The [old|present|second] {site} [dates from|was finished in|was given up in] {year}, and [cost|was valued at] {thousands} crowns.
""",
    "Work": """
{goods} are [first|usually|always] {verb} in {place}, and [only then|afterwards] {verb} [again|by hand|with {things}].
[A skilled|A good|An average] {trade} [handles|needs|uses up] [about|more than|nearly] {number} {things} [a day|a week], [together with|besides] {things}.
[Since|Because] {things} are {adj}, they [must be|have to be|cannot be] {verb} [while {adj}|before {weekday}|without {things}].
[Most|Nearly all|About {decimal} per cent] of {goods} [come from|are sent to|are sold in] {town2}, [the rest|the {adj} ones] [stay|remain] in {place}.
[In|At] {place} the {trades} [keep|store|clean] {things}, {things} and {adj} {things}.
[The usual|The local|An older] method, in which {things} are {verb} [twice|at night|under water], [is still taught|was given up in {year}|makes them {adj}].
[According to|In the words of] {full}, "[a {trade} without {things} is lost|{goods} must be {adj}|no {site} is ever quiet]".
[A load|A cart|A box] of {things} [weighs|measures] {decimal} [kilograms|metres], [and|but] {adj} {things} [weigh less|are heavier|fetch a higher price].
The {workplace} is best known for its {product}, [sold|shown|given as a prize] [every {month}|each {season}|at the fair in {town2}].
[Visitors|Travellers|Buyers] [come|came] [from as far as {town2}|every {month}] [to buy|to see|for] a {product}[, the pride of the {trades}|].
""",
    "Tools and customs": """
[By custom|By an old rule|As everywhere in {field}], the {role} of the {workplace} [works with|carries|is known by] the {tool}.
[Among the {trades}|In {town}|At the {workplace}] the {role} is [never seen without|expected to bring|trusted with] the {tool}.
[A new|The new|Every new] {role} [receives|is given|buys] a {tool} [on the first {weekday}|in {month}|after {number} weeks].
[The|A] {trade}'s {role} [is proud of|sleeps beside|takes care of] [the|{his}] {tool}[, older than {place}|].
[Some say|It is said|The saying goes] that [no|a poor] {role} [would lend|ever lost|will sell] [the|a] {tool}.
[In {year}|Until {year}] the {role} [was fined|lost {his} post] for [leaving behind|breaking|losing] the {tool}.
[The arms of|A signboard in|A painting in] {town} [show|shows] a {animal}, [the emblem|the luck|the mascot] of all {trades}.
A {animal} [is kept at|lives near|may be seen about] [every|the] {workplace}[, since it brings luck|, and is fed by the {trades}|].
""",
    "Seasons and food": """
In {month} [and through the {season}|, as in all the {season},] the {trades} [eat|live on|are served] {food}.
[The {season} meal|The dish of the {season}] among {trades} is {food}, [eaten at the {workplace}|shared after work|as {full} noted in {year}].
[Each|Every] {season}[, when {clue},|] the {workplace} [serves|smells of|buys] {food}.
In {season} {goods} are {verb} [early|late|only on {weekday}], and [at noon|in the evening] [the {trades}|all hands] [sit down to|eat] {food}.
[The|A] {trade}'s {season} [dish|supper|meal] is {food}[, eaten in {place}|, and nothing else].
[The|Some] {trades} [call|name] {food} their {season} [dish|supper|meal][, and share it when {clue}|].
[As soon as|When] {clue}, [the {trades} cook|the table is laid with|there is] {food}[ in {place}|].
[On|For] the {season} feast [in {month}|of the {workplace}] [the {trades} share|there is always] {food}.
""",
    "Surroundings": """
The {river} [rises|turns] {decimal} [kilometres|miles] {compass} of {town} and [flows|runs] [past|behind] the {workplace} to {town2}.
[A path|A lane|The old road] leads [from|past] {place} [to|towards] {town2}, {decimal} kilometres to the {compass}.
[To|On] the {compass} [lie|are] [woods and fields|hills|meadows], [where|and there] the {trade}'s {animal} is [common|often seen|protected].
[The population|The parish] [rose|fell] from {thousands} in {year} to {thousands} in {year}.
""",
}
SECTIONS = {heading: lines.strip().splitlines() for heading, lines in _SECTIONS.items()}

# Paragraphs of handbooks, full of the words of their trade.
HANDBOOK = """
[Every|A good|Any] {trade} [keeps|needs|knows] {things}, {things} and {adj} {things} [in|near|beside] the {site}.
[The {trades}|Good {trades}] {verb} the {things}, {verb} the {things} and {verb} [the {adj} {things}|whatever was {adj}] in {place}.
[Of {things} and {things}|About {adj} {things}]: the {trade} [wants|takes] them {adj}, the {role} wants them {adj}, and the {animal} [does not care|likes both].
{field} [is|means] [mostly|above all] {things}: {adj} {things}, {adj} {things}, and a {product} [at the end|in the {workplace}|now and then].
The {workplace} has its {site}, its {site} and its {animal}; [the {trades} keep|there stand] {things} and {things} [in it|between them].
[A|The] {role} [at|of] the {workplace} has a {tool}, the other {trades} have {things}, {things} and {things}.
[Where|When] {things} are {verb}, [the {site} becomes|{place} is soon] {adj}, and [the {animal} leaves|the {trades} are content].
[How|Why] are {things} {verb}? [Because|Since] they are {adj}, [say the {trades}|says the {role} of the {workplace}], and {things} are not.
[For|To make] a {product} [take|one takes] {number} {things}, [some|a few] {adj} {things} and [a {trade}'s {tool}|the {things} from the {site}].
In {season} the {trades} [eat|love] {food}, [put away|count] the {things} and [sweep|leave] the {adj} {site}.
[The {role}'s {tool}|The {tool} of the {role}] is [worth|dearer than] {number} {things}[ and a {product}|], [say|swear] the {trades}.
[Nothing|Little] [smells|looks] like {place}: {things}, {things}, [the {animal}|a {product}] and {food} in {season}.
{things}, {things}, {things}: [so sings|so counts|so cries] the {role} of the {workplace}, [and the {animal} listens|{tool} in hand].
[No|Never a] {product} without {adj} {things}, [no|never a] {workplace} without its {animal}, [no|never a] {role} without the {tool}.
""".strip().splitlines()

_QUESTIONS = {
    "product": """
What did {name} most probably make?
The thing that {name} was proudest of was a _ .
What could be bought from people of this trade?
""",
    "animal": """
Which animal would {name} meet at work?
The animal in the sign over the door is the _ .
Which animal goes with this trade?
""",
    "workplace": """
Where did {name} most probably work?
From this we learn that {name} went every day to the _ .
What is the best name for the place in the passage?
""",
    "trade": """
What was {name}?
{name} earned a living as a _ .
What would {name} answer when asked about the trade?
""",
    "field": """
The passage is mainly about _ .
What is the best title for the passage?
What does the writer know most about?
""",
    "tool": """
Which of these would {name} use?
If {name} forgot one thing at home, it could be the _ .
What would you expect to find in {name}'s hands?
""",
}
QUESTIONS = {kind: lines.strip().splitlines() for kind, lines in _QUESTIONS.items()}
