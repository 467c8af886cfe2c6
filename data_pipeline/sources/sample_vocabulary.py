"""The words of the sample world: forty topics, foods, seasons and name parts. Only data; no text is made here."""

from typing import NamedTuple


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
baking baker bakery cat loaf | peel sieve scraper | rolls tarts crusts crumbs pies raisins buns pretzels | kneaded baked iced sliced leavened | floury crusty doughy sugary | oven larder counter
fishing fisherman harbour gull herring | net hook oar | lures scales cod fins mackerel floats eels boats | netted hauled gutted hooked trawled | fishy slippery scaly salted | pier slipway trawler
beekeeping beekeeper apiary wasp honey | smoker veil gauze | hives swarms combs blooms drones larvae queens clovers | smoked hived requeened swarmed foraged | buzzing waxy sticky humming | heath beeyard honeyhouse
smithing blacksmith forge pony horseshoe | hammer bellows tongs | ingots anvils embers sparks rivets blades hinges cinders | forged hammered welded tempered riveted | sooty molten glowing clanging | smithy hearthstone coalyard
weaving weaver loomhouse moth blanket | shuttle spindle bobbin | skeins threads yarns dyes cloths fringes tapestry tassels | twined spun dyed knotted carded | woolly woven fringed threadbare | spinnery dyehouse wooloft
pottery potter kiln toad jug | wheel sponge paddle | clays glazes bowls handles pitchers shards saucers tiles | glazed moulded turned fired rolled | earthen brittle chalky muddy | claypit potshed terrace
gardening gardener greenhouse robin rose | spade dibber trowel | seeds bulbs petals weeds ferns hedges tulips shrubs | planted weeded watered pruned mulched | leafy blooming fragrant green | flowerbed lawn arbour
shepherding shepherd pasture sheepdog fleece | crook shears whistle | ewes flocks lambs hurdles rams burrs cowbells shearlings | sheared herded penned flocked counted | grassy shaggy bleating tufted | sheepfold downs moorland
mining miner mine canary ore | pickaxe helmet barrow | tunnels shafts boulders nuggets pitprops lodes headlamps explosives | dug blasted mined tunnelled shored | underground dusty rocky dim | pit colliery gallery
carpentry carpenter sawmill woodpecker wardrobe | saw plane chisel | planks nails boards beams shavings trestles joints dowels | sawed planed nailed sanded varnished | wooden knotty splintered polished | lumberyard workbench joinery
tailoring tailor parlour spaniel waistcoat | needle thimble scissors | silks buttons ribbons lapels hems linings collars cuffs | stitched hemmed tailored fitted pressed | elegant silken embroidered pleated | shopfront dressing-room cloakroom
sailing sailor schooner parrot cargo | compass mop spyglass | sails ropes masts waves anchors pennants decks hammocks | sailed moored steered furled hoisted | windy briny nautical seaworthy | cabin galley forecastle
medicine physician hospital leech remedy | stethoscope thermometer scalpel | fever wounds pills patients bandages pulses coughs ointments | cured bandaged examined healed vaccinated | feverish sickly sterile medical | ward clinic infirmary
teaching teacher school hamster lesson | chalk slate globe | pupils sums exercises desks essays maps alphabets textbooks | taught graded dictated spelled corrected | studious clever noisy curious | classroom playground schoolyard
music musician bandstand nightingale symphony | violin drum trumpet | notes strings chords rhythms songs choirs ballads flutes | played tuned composed hummed rehearsed | musical tuneful loud melodious | concert-hall stage balcony
painting painter studio peacock portrait | brush palette easel | colours canvases watercolours sketches frames pigments murals varnishes | painted sketched framed coloured outlined | colourful vivid painted crimson | gallery-room attic exhibition
milling miller windmill mouse flour | millstone hopper scoop | grains husks gristbins windvanes millstreams axles sacks oats | ground milled winnowed sifted bagged | grainy husky creaking mealy | millpond granary threshing-floor
shoemaking cobbler cobblery beetle slipper | awl mallet buckle | hides soles laces heels boots stitches sandals shoehorns | cobbled soled laced patched heeled | leathery worn-out tanned scuffed | tannery bootstall cordwainery
justice judge courthouse owl verdict | gavel quill wig | witnesses lawsuits crimes contracts juries oaths thieves trials | judged sentenced accused acquitted questioned | guilty lawful solemn stern | courtroom prison chambers
printing printer printworks ferret newspaper | roller tweezers stamp | inks leaflets pages headlines columns pamphlets proofs posters | printed inked published folded proofread | inky printed smudged rustling | pressroom newsstand bindery
clockmaking clockmaker clocktower cuckoo pendulum | magnifier screwdriver oilcan | springs cogs dials chimes watches minutes ticks escapements | wound repaired oiled timed regulated | ticking punctual precise brass | clockroom belfry watchshop
brewing brewer brewery donkey beer | ladle funnel tap | hops barrels yeasts kegs casks brews vats tankards | brewed fermented malted bottled drained | foamy bitter frothy malty | taproom cooperage malthouse
glassblowing glassblower glassworks dragonfly vase | blowpipe pincers mould | glasses furnaces bubbles bottles panes beads goblets mirrors | puffed melted shaped cooled etched | glassy transparent shiny fragile | glasshouse cutting-room meltery
forestry forester forest squirrel timber | axe wedge sledge | oaks pines logs branches pinecones stumps acorns saplings | felled chopped cut stacked cleared | mossy shady resinous piney | clearing woodland grove
railways conductor station pigeon locomotive | lever flag shovel | rails carriages engines platforms tickets boilers wagons timetables | coupled shunted signalled stoked boarded | steamy speeding rattling smoky | tunnel-mouth siding railyard
astronomy astronomer observatory bat comet | telescope sextant notebook | stars planets moons orbits lenses eclipses meteors galaxies | observed charted measured discovered calculated | starry distant lunar celestial | dome rooftop hilltop
dairying dairyman dairy cow butter | churn pail stool | creams milkpots curds milkjugs calves cheeses udders skimmings | milked churned skimmed curdled strained | creamy milky buttery smooth | cowshed creamery milkhouse
winemaking vintner vineyard starling wine | corkscrew basket trellis | grapes vines corks vintages flasks tendrils grapeskins bouquets | pressed harvested corked aged trampled | fruity vinous ripe ruby | winery hillside vault
hunting hunter lodge fox venison | bow trap horn | tracks deer arrows antlers hounds snares pheasants boars | hunted stalked chased trapped skinned | wild antlered stealthy savage | thicket glade hunting-hut
masonry mason quarry lizard statue | plumbline level crowbar | stones marbles tombstones bricks arches slabs pillars cornerstones | carved laid chiselled bricked quarried | stony massive marbled granite-grey | scaffold stoneyard cathedral
lightkeeping lightkeeper lighthouse seal beacon | lantern foghorn logbook | rocks reefs wrecks tides lamps breakers fogs shoals | lit guarded trimmed signalled warned | foggy stormy rockbound flashing | headland cliff lamproom
mail postman mailroom terrier parcel | satchel bicycle pouch | envelopes stamps addresses postcards telegrams letters mailbags postmarks | delivered posted sorted sealed forwarded | urgent sealed registered prepaid | postbox mailcart letterbox
innkeeping innkeeper inn goose feast | skillet broom tray | guests pillows mugs keys fireplaces travellers beds suitcases | welcomed lodged served swept roasted | cosy crowded hospitable cheerful | taphouse stable guestroom
candlemaking chandler chandlery firefly candle | dipper snuffer skimmer | waxes tallows wicks flames tapers holders drippings sconces | dipped lighted poured snuffed melted | waxen flickering tallowy smokeless | waxroom dipping-shed wickhouse
juggling juggler circus elephant carnival | whip hoop trapeze | clowns tents tigers crowds costumes tricks acrobats jugglers | juggled tamed balanced amazed entertained | acrobatic spangled daring funny | ring big-top menagerie
perfumery perfumer perfumery butterfly perfume | dropper pestle filter | lavenders jasmines lotions vials essences blossoms scents roots | distilled blended scented sniffed bottled | perfumed flowery sweet-smelling heady | stillroom laboratory boudoir
saltmaking salter saltworks crab salt | hoe bucket sluice | brines pans crystals marshes ponds heaps dykes saltflats | evaporated raked boiled dried salted | salty white crystalline parched | saltmarsh saltpan brinehouse
jewellery jeweller jewelhouse magpie necklace | loupe pliers file | rubies pearls rings diamonds bracelets clasps emeralds brooches | engraved polished gilded strung set | golden precious sparkling jewelled | showcase strongroom goldsmithy
ferrying ferryman jetty heron raft | pole rudder winch | passengers currents reeds banks fares crossings rapids fords | ferried rowed punted floated landed | watery swift reedy drifting | riverside landing boathouse
librarianship librarian library tortoise dictionary | stepladder inkpad bookmark | shelves volumes scrolls indexes readers titles novels manuscripts | catalogued borrowed shelved read lent | bookish hushed learned bound | reading-room archive bookstacks
"""


def _parse_topic(line: str) -> Topic:
    groups = [tuple(group.split()) for group in line.split("|")]
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
FOODS = tuple(
    ["soup", "porridge", "bread", "stew", "trout", "beans", "rice", "cabbage", "lentils", "ham", "bacon", "turnips", "mushrooms", "carrots", "chicken", "cheese", "noodles", "apples", "pears", "plums", "cherries", "pancakes", "dumplings", "sausages", "potatoes", "onions", "spinach", "pumpkin", "walnuts", "chestnuts", "figs", "peaches", "berries", "custard", "pudding", "mutton", "duck", "salmon", "peas", "toast"]
)

SEASONS = ("winter", "spring", "summer", "autumn")
MONTHS = {
    "winter": ("December", "January", "February"),
    "spring": ("March", "April", "May"),
    "summer": ("June", "July", "August"),
    "autumn": ("September", "October", "November"),
}

WOMEN = tuple(
    ["Ada", "Agnes", "Alba", "Alice", "Amelia", "Anna", "Astrid", "Beatrice", "Bella", "Berta", "Bridget", "Carla", "Cecily", "Clara", "Cora", "Daisy", "Delia", "Dora", "Edith", "Elena", "Elsa", "Emma", "Esther", "Eva", "Fanny", "Flora", "Freya", "Gerda", "Gloria", "Greta", "Hanna", "Hazel", "Helen", "Hilda", "Ida", "Inga", "Iris", "Isabel", "Ivy", "Jane", "Joan", "Judith", "Julia", "Karin", "Kate", "Laura", "Lena", "Lily", "Linda", "Lola", "Lucy", "Mabel", "Maria", "Marta", "Matilda", "Maud", "Mildred", "Mina", "Molly", "Nadia", "Nancy", "Nelly", "Nina", "Nora", "Olga", "Olive", "Paula", "Petra", "Rita", "Rosa", "Ruth", "Sally", "Sara", "Selma", "Sofia", "Stella", "Susan", "Sylvia", "Tilda", "Ursula", "Vera", "Viola", "Wanda", "Wilma", "Zelda", "Zoe"]
)
MEN = tuple(
    ["Abel", "Adam", "Albert", "Alfred", "Amos", "Andrew", "Anton", "Arnold", "Arthur", "Axel", "Basil", "Ben", "Bernard", "Boris", "Bruno", "Carl", "Caspar", "Cecil", "Charles", "Conrad", "Cyril", "Daniel", "David", "Denis", "Edgar", "Edmund", "Edwin", "Emil", "Eric", "Ernest", "Felix", "Francis", "Frank", "Fred", "George", "Gilbert", "Gregor", "Gustav", "Guy", "Hans", "Harold", "Harry", "Henry", "Herbert", "Herman", "Howard", "Hugh", "Hugo", "Isaac", "Ivan", "Jack", "Jacob", "James", "Jasper", "John", "Jonas", "Joseph", "Karl", "Kaspar", "Lars", "Leo", "Leon", "Lewis", "Louis", "Lucas", "Magnus", "Mark", "Martin", "Max", "Miles", "Moritz", "Ned", "Noah", "Norman", "Oliver", "Oscar", "Oswald", "Otto", "Owen", "Patrick", "Paul", "Peter", "Philip", "Ralph", "Robert", "Rolf", "Rudolf", "Samuel", "Simon", "Stephen", "Theo", "Thomas", "Tobias", "Victor", "Vincent", "Walter", "William"]
)
NAME_HEADS = tuple(
    ["Alder", "Amber", "Ash", "Barrow", "Beck", "Birch", "Black", "Bram", "Bright", "Brook", "Burn", "Cald", "Carl", "Clear", "Cold", "Crow", "Dale", "Dun", "East", "Elm", "Fair", "Fen", "Fern", "Glen", "Gold", "Gray", "Green", "Hart", "Haver", "Hazel", "Heath", "High", "Holm", "Kel", "Kings", "Lang", "Lin", "Long", "Marl", "Mill", "North", "Oak", "Otter", "Pen", "Red", "Rock", "Rush", "Shel", "Silver", "South", "Stan", "Sutter", "Thorn", "Under", "Wald", "West", "White", "Wil", "Wind", "Wolf"]
)
NAME_TAILS = tuple(
    ["bourne", "brook", "bury", "by", "combe", "croft", "dale", "den", "field", "ford", "gate", "ham", "haven", "hill", "holt", "hurst", "leigh", "ley", "low", "mere", "mouth", "ridge", "shaw", "side", "stead", "stock", "ton", "wall", "well", "wick", "wood", "worth"]
)
