"""The words of the sample world: forty topics, foods, seasons and name parts. Only data; no text is made here."""

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
baking baker bakery cat loaf | peel sieve scraper | rolls tarts crusts crumbs pies raisins | kneaded baked iced sliced | floury crusty doughy | oven larder
fishing fisherman harbour gull herring | net hook oar | lures scales cod fins mackerel floats | netted hauled gutted hooked | fishy slippery scaly | pier slipway
beekeeping beekeeper apiary wasp honey | smoker veil gauze | hives swarms combs blooms drones larvae | smoked hived requeened swarmed | buzzing waxy sticky | heath beeyard
smithing blacksmith forge pony horseshoe | hammer bellows tongs | ingots anvils embers sparks rivets blades | forged hammered welded tempered | sooty molten glowing | smithy hearthstone
weaving weaver loomhouse moth blanket | shuttle spindle bobbin | skeins threads yarns dyes cloths fringes | twined spun dyed knotted | woolly woven fringed | spinnery dyehouse
pottery potter kiln toad jug | wheel sponge paddle | clays glazes bowls handles pitchers shards | glazed moulded turned fired | earthen brittle chalky | claypit potshed
gardening gardener greenhouse robin rose | spade dibber trowel | seeds bulbs petals weeds ferns hedges | planted weeded watered pruned | leafy blooming fragrant | flowerbed lawn
shepherding shepherd pasture sheepdog fleece | crook shears whistle | ewes flocks lambs hurdles rams burrs | sheared herded penned flocked | grassy shaggy bleating | sheepfold downs
mining miner mine canary ore | pickaxe helmet barrow | tunnels shafts boulders nuggets pitprops lodes | dug blasted mined tunnelled | underground dusty rocky | pit colliery
carpentry carpenter sawmill woodpecker wardrobe | saw plane chisel | planks nails boards beams shavings trestles | sawed planed nailed sanded | wooden knotty splintered | lumberyard workbench
tailoring tailor parlour spaniel waistcoat | needle thimble scissors | silks buttons ribbons lapels hems linings | stitched hemmed tailored fitted | elegant silken embroidered | shopfront backroom
sailing sailor schooner parrot cargo | compass mop spyglass | sails ropes masts waves anchors pennants | sailed moored steered furled | windy briny nautical | cabin galley
medicine physician hospital leech remedy | stethoscope thermometer scalpel | fever wounds pills patients bandages pulses | cured bandaged examined healed | feverish sickly sterile | ward clinic
teaching teacher school hamster lesson | chalk slate globe | pupils sums exercises desks essays maps | taught graded dictated spelled | studious clever noisy | classroom playground
music musician bandstand nightingale symphony | violin drum trumpet | notes strings chords rhythms songs choirs | played tuned composed hummed | musical tuneful loud | auditorium stage
painting painter studio peacock portrait | brush palette easel | colours canvases watercolours sketches frames pigments | painted sketched framed coloured | colourful vivid painted | salon attic
milling miller windmill mouse flour | millstone hopper scoop | grains husks gristbins windvanes millstreams axles | ground milled winnowed sifted | grainy husky creaking | millpond granary
shoemaking cobbler cobblery beetle slipper | awl mallet buckle | hides soles laces heels boots stitches | cobbled soled laced patched | leathery shabby tanned | tannery bootstall
justice judge courthouse owl verdict | gavel quill wig | witnesses lawsuits crimes contracts juries oaths | judged sentenced accused acquitted | guilty lawful solemn | courtroom prison
printing printer printworks ferret newspaper | roller tweezers stamp | inks leaflets pages headlines columns pamphlets | printed inked published folded | inky printed smudged | pressroom newsstand
clockmaking clockmaker clocktower cuckoo pendulum | magnifier screwdriver oilcan | springs cogs dials chimes watches minutes | wound repaired oiled timed | ticking punctual precise | clockroom belfry
brewing brewer brewery donkey beer | ladle funnel tap | hops barrels yeasts kegs casks brews | brewed fermented malted bottled | foamy bitter frothy | taproom cooperage
glassblowing glassblower glassworks dragonfly vase | blowpipe pincers mould | glasses furnaces bubbles bottles panes beads | puffed melted shaped cooled | glassy transparent shiny | glasshouse cutting-room
forestry forester forest squirrel timber | axe wedge sledge | oaks pines logs branches pinecones stumps | felled chopped cut stacked | mossy shady resinous | clearing woodland
railways conductor station pigeon locomotive | lever flag shovel | rails carriages engines platforms tickets boilers | coupled shunted signalled stoked | steamy speeding rattling | viaduct siding
astronomy astronomer observatory bat comet | telescope sextant notebook | stars planets moons orbits lenses eclipses | observed charted measured discovered | starry distant lunar | dome rooftop
dairying dairyman dairy cow butter | churn pail stool | creams milkpots curds milkjugs calves cheeses | milked churned skimmed curdled | creamy milky buttery | cowshed creamery
winemaking vintner vineyard starling wine | corkscrew basket trellis | grapes vines corks vintages flasks tendrils | pressed harvested corked aged | fruity vinous ripe | winery hillside
hunting hunter lodge fox venison | bow trap horn | tracks deer arrows antlers hounds snares | hunted stalked chased trapped | wild antlered stealthy | thicket glade
masonry mason quarry lizard statue | plumbline level crowbar | stones marbles tombstones bricks arches slabs | carved laid chiselled bricked | stony massive marbled | scaffold stoneyard
lightkeeping lightkeeper lighthouse seal beacon | lantern foghorn logbook | rocks reefs wrecks tides lamps breakers | lit guarded trimmed signalled | foggy stormy rockbound | headland cliff
mail postman mailroom terrier parcel | satchel bicycle pouch | envelopes stamps addresses postcards telegrams letters | delivered posted sorted sealed | urgent sealed registered | postbox mailcart
innkeeping innkeeper inn goose feast | skillet broom tray | guests pillows mugs keys fireplaces travellers | welcomed lodged served swept | cosy crowded hospitable | taphouse stable
candlemaking chandler chandlery firefly candle | dipper snuffer skimmer | waxes tallows wicks flames tapers holders | dipped lighted poured snuffed | waxen flickering tallowy | waxroom wickhouse
juggling juggler circus elephant carnival | whip hoop trapeze | clowns tents tigers crowds costumes tricks | juggled tamed balanced amazed | acrobatic spangled daring | ring arena
perfumery perfumer perfumery butterfly perfume | dropper pestle filter | lavenders jasmines lotions vials essences blossoms | distilled blended scented sniffed | perfumed flowery musky | stillroom laboratory
saltmaking salter saltworks crab salt | hoe bucket sluice | brines pans crystals marshes ponds heaps | evaporated raked boiled dried | salty white crystalline | saltmarsh saltpan
jewellery jeweller jewelhouse magpie necklace | loupe pliers file | rubies pearls rings diamonds bracelets clasps | engraved polished gilded strung | golden precious sparkling | showcase strongroom
ferrying ferryman jetty heron raft | pole rudder winch | passengers currents reeds banks fares crossings | ferried rowed punted floated | watery swift reedy | riverside landing
librarianship librarian library tortoise dictionary | stepladder inkpad bookmark | shelves volumes scrolls indexes readers titles | catalogued borrowed shelved read | bookish hushed learned | archive archive
"""


def _parse_topic(line: str) -> Topic:
    groups = [_words(group) for group in line.split("|")]
    field, trade, workplace, animal, product = groups[0]
    return Topic(field, trade, workplace, animal, product, *groups[1:])


TOPICS = tuple(_parse_topic(line) for line in _TOPIC_LINES.strip().splitlines())

ROLES = ("master", "apprentice", "watchman")
ROLE_CLUES = {
    "master": ("owner", "master", "head"),
    "apprentice": ("apprentice", "learner", "youngest hand"),
    "watchman": ("watchman", "night guard", "doorkeeper"),
}

# Mass nouns or plurals, so that "a plate of …" fits each. None belongs to a topic.
FOODS = _words(
    "soup porridge bread stew trout beans rice cabbage lentils ham bacon turnips mushrooms carrots "
    "chicken cheese noodles apples pears plums cherries pancakes dumplings sausages potatoes onions "
    "spinach pumpkin walnuts chestnuts figs peaches berries custard pudding mutton duck salmon peas toast"
)

SEASONS = ("winter", "spring", "summer", "autumn")
MONTHS = {
    "winter": ("December", "January", "February"),
    "spring": ("March", "April", "May"),
    "summer": ("June", "July", "August"),
    "autumn": ("September", "October", "November"),
}

SEASON_CLUES = {
    "winter": ("snow lies on the roofs", "the ponds are frozen", "ice covers the lanes"),
    "spring": ("the buds open", "the swallows are back", "the blossom is out"),
    "summer": ("the heat comes", "the hay is dry", "the wells run low"),
    "autumn": ("the leaves fall", "the mist rises", "the harvest is in"),
}

WOMEN = _words(
    "Ada Agnes Alice Anna Astrid Bella Bridget Cecily Clara Daisy Dora Edith Elsa Esther Fanny Flora "
    "Gerda Greta Hanna Helen Ida Iris Isabel Jane Judith Karin Kate Lena Linda Lola Mabel Marta Maud "
    "Mildred Molly Nancy Nelly Nora Olive Petra Rita Ruth Sara Selma Stella Sylvia Ursula Vera Wanda "
    "Zelda"
)
MEN = _words(
    "Abel Adam Alfred Andrew Arnold Axel Ben Boris Carl Cecil Conrad Daniel Denis Edmund Emil Ernest "
    "Francis Frank George Gregor Guy Harold Henry Herman Hugh Isaac Jack James John Joseph Kaspar Leo "
    "Lewis Lucas Magnus Martin Miles Ned Norman Oscar Otto Patrick Peter Ralph Rolf Samuel Stephen Thomas "
    "Victor Walter"
)
NAME_HEADS = _words(
    "Alder Amber Barrow Beck Black Bram Brook Burn Carl Clear Crow Dale East Elm Fen Fern Gold Gray Hart "
    "Haver Heath High Kel Kings Lin Long Mill North Otter Pen Rock Rush Silver South Sutter Thorn Wald "
    "West Wil Wind"
)
NAME_TAILS = _words(
    "bourne brook by combe dale field ford ham haven holt leigh ley mere mouth shaw stead stock wall well "
    "wood"
)
