"""The words of the sample world: two dozen topics, foods, seasons and name parts. Only data; no text is made here."""

from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class Topic(NamedTuple):
    """One field of work and all that belongs to it. Single words, lower case; each word has one topic only."""

    field: str
    trade: str
    workplace: str
    animal: str
    product: str
    tools: tuple[str, ...]  # one a role, in the order of ROLES
    things: tuple[str, ...]
    verbs: tuple[str, ...]  # past tense, transitive
    adjectives: tuple[str, ...]
    sites: tuple[str, ...]

    @property
    def trades(self) -> str:
        """Plural of the trade."""
        return self.trade[:-3] + "men" if self.trade.endswith("man") else self.trade + "s"


# field trade workplace animal product | tools | things | verbs | adjectives | sites
_TOPIC_LINES = """
baking baker bakery cat loaf | peel sieve scraper | rolls tarts crusts crumbs | kneaded baked iced | floury crusty | oven larder
fishing fisherman harbour gull herring | net hook oar | lures scales cod fins | netted hauled gutted | fishy slippery | pier slipway
beekeeping beekeeper apiary wasp honey | smoker veil gauze | hives swarms combs blooms | smoked hived requeened | buzzing waxy | heath beeyard
smithing blacksmith forge pony horseshoe | hammer bellows tongs | ingots anvils embers sparks | forged hammered welded | sooty molten | smithy hearthstone
weaving weaver loomhouse moth blanket | shuttle spindle bobbin | skeins threads yarns dyes | twined spun dyed | woolly woven | spinnery dyehouse
pottery potter kiln toad jug | wheel sponge paddle | clays glazes bowls handles | glazed moulded turned | earthen brittle | claypit potshed
gardening gardener greenhouse robin rose | spade dibber trowel | seeds bulbs petals weeds | planted weeded watered | leafy blooming | flowerbed lawn
shepherding shepherd pasture sheepdog fleece | crook shears whistle | ewes flocks lambs hurdles | sheared herded penned | grassy shaggy | sheepfold downs
mining miner mine canary ore | pickaxe helmet barrow | tunnels shafts boulders nuggets | dug blasted mined | underground dusty | pit colliery
carpentry carpenter sawmill woodpecker wardrobe | saw plane chisel | planks nails boards beams | sawed planed nailed | wooden knotty | lumberyard workbench
tailoring tailor parlour spaniel waistcoat | needle thimble scissors | silks buttons ribbons lapels | stitched hemmed tailored | elegant silken | shopfront backroom
sailing sailor schooner parrot cargo | compass mop spyglass | sails ropes masts waves | sailed moored steered | windy briny | cabin galley
medicine physician hospital leech remedy | stethoscope thermometer scalpel | fever wounds pills patients | cured bandaged examined | feverish sickly | ward clinic
teaching teacher school hamster lesson | chalk slate globe | pupils sums exercises desks | taught graded dictated | studious clever | classroom playground
music musician bandstand nightingale symphony | violin drum trumpet | notes strings chords rhythms | played tuned composed | musical tuneful | auditorium stage
painting painter studio peacock portrait | brush palette easel | colours canvases watercolours sketches | painted sketched framed | colourful vivid | salon attic
milling miller windmill mouse flour | millstone hopper scoop | grains husks gristbins windvanes | ground milled winnowed | grainy husky | millpond granary
shoemaking cobbler cobblery beetle slipper | awl mallet buckle | hides soles laces heels | cobbled soled laced | leathery shabby | tannery bootstall
justice judge courthouse owl verdict | gavel quill wig | witnesses lawsuits crimes contracts | judged sentenced accused | guilty lawful | courtroom prison
printing printer printworks ferret newspaper | roller tweezers stamp | inks leaflets pages headlines | printed inked published | inky printed | pressroom newsstand
clockmaking clockmaker clocktower cuckoo pendulum | magnifier screwdriver oilcan | springs cogs dials chimes | wound repaired oiled | ticking punctual | clockroom belfry
brewing brewer brewery donkey beer | ladle funnel tap | hops barrels yeasts kegs | brewed fermented malted | foamy bitter | taproom cooperage
glassblowing glassblower glassworks dragonfly vase | blowpipe pincers mould | glasses furnaces bubbles bottles | puffed melted shaped | glassy transparent | glasshouse meltery
forestry forester forest squirrel timber | axe wedge sledge | oaks pines logs branches | felled chopped cut | mossy shady | clearing woodland
"""


def _parse_topic(line: str) -> Topic:
    groups = [_words(group) for group in line.split("|")]
    field, trade, workplace, animal, product = groups[0]
    return Topic(field, trade, workplace, animal, product, *groups[1:])


TOPICS = tuple(_parse_topic(line) for line in _TOPIC_LINES.strip().splitlines())

ROLES = ("master", "apprentice", "watchman")
ROLE_CLUES = {
    "master": ("owner", "master"),
    "apprentice": ("apprentice", "learner"),
    "watchman": ("watchman", "doorkeeper"),
}

# Mass nouns or plurals, so that "a plate of …" fits each. None belongs to a topic.
FOODS = _words(
    "soup porridge bread stew trout beans rice cabbage lentils ham bacon turnips mushrooms carrots "
    "chicken cheese noodles apples pears plums cherries pancakes dumplings sausages potatoes onions "
    "spinach pumpkin walnuts chestnuts figs peaches berries custard pudding mutton duck salmon peas toast"
)

SEASONS = ("winter", "summer")
MONTHS = {
    "winter": ("November", "December", "January", "February"),
    "summer": ("May", "June", "July", "August"),
}
SEASON_CLUES = {
    "winter": ("snow lies on the roofs", "the ponds are frozen", "ice covers the lanes"),
    "summer": ("the heat comes", "the hay is dry", "the wells run low"),
}

WOMEN = _words("Ada Alice Astrid Bridget Clara Dora Elsa Fanny Gerda Hanna Ida Isabel Karin Lena Lola Marta")
MEN = _words(
    "Abel Alfred Arnold Ben Carl Conrad Denis Emil Francis George Guy Henry Isaac James Joseph Leo Lucas "
    "Martin Ned Oscar Patrick Ralph Samuel Thomas"
)
NAME_HEADS = _words(
    "Alder Amber Barrow Beck Black Bram Brook Burn Carl Clear "
    "Crow Dale East Elm Fen Fern Gold Gray Hart Haver"
)
NAME_TAILS = _words("bourne brook by combe dale field ford ham")
